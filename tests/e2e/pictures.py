"""PNG pictures, as far as screenshots need it: two side by side, and as few colours as a palette has. Standard library alone."""

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Picture:
    """Rows of colours, each (red, green, blue)."""

    def __init__(self, rows):
        self.rows = rows
        self.width, self.height = len(rows[0]), len(rows)

    @classmethod
    def read(cls, data):
        """A PNG of eight bits a channel, with or without an alpha channel, which is not looked at."""
        assert data.startswith(SIGNATURE)
        place, packed = len(SIGNATURE), b""
        while place < len(data):
            length, kind = struct.unpack_from(">I4s", data, place)
            body = data[place + 8:place + 8 + length]
            place += 12 + length
            if kind == b"IHDR":
                width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", body)
                assert depth == 8 and colours in (2, 6) and not interlaced, (depth, colours, interlaced)
                step = 3 if colours == 2 else 4
            elif kind == b"IDAT":
                packed += body
        flat, size, above, rows = zlib.decompress(packed), width * step, bytes(width * step), []
        for y in range(height):
            start = y * (size + 1)
            line = unfiltered(flat[start], bytearray(flat[start + 1:start + 1 + size]), above, step)
            rows.append(list(zip(line[0::step], line[1::step], line[2::step])))
            above = line
        return cls(rows)

    @classmethod
    def side_by_side(cls, pictures, gap=16):
        """Pictures of one height; more than one are framed, as windows are."""
        if len(pictures) == 1:
            return pictures[0]
        rows = pictures[0].framed()
        for picture in pictures[1:]:
            rows = [left + [(255, 255, 255)] * gap + right for left, right in zip(rows, picture.framed())]
        return cls(rows)

    def framed(self, line=(176, 184, 196)):
        edge = [[line] * (self.width + 2)]
        return edge + [[line, *row, line] for row in self.rows] + edge

    def png(self):
        """With a palette of at most 256 colours."""
        counts = Counter(colour for row in self.rows for colour in row)
        palette, nearest = reduced(counts)
        rows = b"".join(b"\0" + bytes(nearest[colour] for colour in row) for row in self.rows)
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 3, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"PLTE", bytes(part for colour in palette for part in colour)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
        return SIGNATURE + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)


def unfiltered(kind, line, above, step):
    """Undoes a row's filter. [PNG, 9.2]"""
    for place in range(len(line) if kind else 0):
        left = line[place - step] if place >= step else 0
        up = above[place]
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            corner = above[place - step] if place >= step else 0
            sum_ = left + up - corner
            guess = min((left, up, corner), key=lambda one: abs(sum_ - one))
        line[place] = (line[place] + guess) & 255
    return line


def reduced(counts, most=256):
    """A palette, and which of it stands for each colour: the commonest as they are, the others in boxes cut at their middle."""
    colours = [colour for colour, _ in counts.most_common()]
    kept = colours[:most if len(colours) <= most else most // 2]
    boxes = [colours[len(kept):]] if len(colours) > len(kept) else []
    while boxes and len(boxes) < most - len(kept):
        def span(box):
            return max(max(c[part] for c in box) - min(c[part] for c in box) for part in range(3))
        boxes.sort(key=span)
        widest = boxes.pop()
        if len(widest) == 1:
            boxes.append(widest)
            break
        part = max(range(3), key=lambda part: max(c[part] for c in widest) - min(c[part] for c in widest))
        widest.sort(key=lambda colour: colour[part])
        middle = len(widest) // 2
        boxes += [widest[:middle], widest[middle:]]
    palette, nearest = list(kept), {colour: place for place, colour in enumerate(kept)}
    for box in boxes:
        weight = sum(counts[colour] for colour in box)
        palette.append(tuple(round(sum(colour[part] * counts[colour] for colour in box) / weight) for part in range(3)))
        nearest.update((colour, len(palette) - 1) for colour in box)
    return palette, nearest
