"""Curves as SVG, by the standard library: points and lines over a logarithmic axis. Knows nothing of what is drawn."""

from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 48
COLOURS = ["#1f6feb", "#d1662b", "#2a9d5b", "#8a4fd0", "#c2303a", "#6b7280"]


def nice(top):
    """A round number above `top`, and the step that divides it."""
    size = 10 ** floor(log10(top)) if top > 0 else 1
    most = next(factor * size for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if factor * size >= top)
    return most, most / (3 if most / size in (1.5, 3, 6) else 4)


def short(number):
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"


def draw(file, title, across, up, series):
    """`series` is name → [(x, y)], x above 0. The vertical axis begins at 0."""
    series = {name: [(x, y) for x, y in points if y is not None] for name, points in series.items()}
    everything = [point for points in series.values() for point in points]
    if not everything:
        return False
    first, last = floor(log10(min(x for x, _ in everything))), ceil(log10(max(x for x, _ in everything)))
    last = max(last, first + 1)
    most, step = nice(max(y for _, y in everything))
    place = lambda x, y: (LEFT + (log10(x) - first) / (last - first) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most * (HEIGHT - TOP - BOTTOM))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>']
    value = 0.0
    while value <= most * 1.001:
        _, y = place(10 ** first, value)
        out += [f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>', f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(round(value, 6))}</text>']
        value += step
    for power in range(first, last + 1):
        x, y = place(10 ** power, 0)
        out += [f'<path d="M{x:.1f} {TOP}V{y}" stroke="#eee"/>', f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{short(10 ** power)}</text>']
    out += [f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>',
            f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>']
    for index, (name, points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        dots = [place(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots]
        out.append(f'<text x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 18 * index}" fill="{colour}">{escape(name)}</text>')
    file.write_text("\n".join([*out, "</svg>"]) + "\n")
    return True
