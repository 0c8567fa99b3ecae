"""The Prometheus text format, read as strictly as a test may."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL},?)*)\}})? (\S+)")


class Metrics:
    """What one scrape says: `families` by name as (type, help), `samples` by name and labels."""

    def __init__(self, text):
        assert text.endswith("\n")
        self.families, self.samples = {}, {}
        family = kind = None
        for line in text.splitlines():
            if line.startswith("# HELP "):
                _, _, family, words = line.split(" ", 3)
                assert family not in self.families, f"{family} twice"
                self.families[family] = (None, words)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name == family and kind in ("counter", "gauge", "histogram"), line
                self.families[family] = (kind, self.families[family][1])
            else:
                found = SAMPLE.fullmatch(line)
                assert found, f"no sample: {line!r}"
                name, labels = found[1], dict(re.findall(LABEL, found[2] or ""))
                endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
                assert name in [family + ending for ending in endings], f"{name} below {family}"
                key = (name, frozenset((n, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), v)) for n, v in labels.items()))
                assert key not in self.samples, f"{line} twice"
                self.samples[key] = float(found[5])
        self.check_histograms()

    def check_histograms(self):
        for family, (kind, _) in self.families.items():
            if kind != "histogram":
                continue
            series = {}
            for (name, labels), value in self.samples.items():
                if name == family + "_bucket":
                    bound = float(dict(labels)["le"].replace("+Inf", "inf"))
                    series.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((bound, value))
            for labels, buckets in series.items():
                assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), family
                assert buckets[-1] == (float("inf"), self.samples[family + "_count", labels]), family
                assert (family + "_sum", labels) in self.samples

    def get(self, name, **labels):
        return self.samples[name, frozenset(labels.items())]

    def names(self):
        """Every name that a query may use."""
        return {name for name, _ in self.samples} | set(self.families)

    def labels(self, family):
        """The names of a family's labels."""
        found = {n for name, labels in self.samples for n, _ in labels if name.startswith(family) and name[len(family):] in ("", "_bucket")}
        return found - {"le"}


def scrape(control):
    answer = control.call("GET", "/metrics")
    assert answer.status == 200 and answer.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    return Metrics(answer.body.decode())
