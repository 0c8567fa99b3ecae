//! The Prometheus text format, version 0.0.4: families with HELP and TYPE, label values made harmless. Knows no metric.

use crate::counters::{BOUNDS, Spread};
use std::fmt::{self, Display, Write as _};

/// Labels of one sample.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// What is written so far.
#[derive(Debug, Default)]
pub(crate) struct Text {
    out: String,
}

/// The samples of one family.
pub(crate) struct Family<'a> {
    name: &'a str,
    out: &'a mut String,
}

impl Text {
    /// Writes a number that only grows; its name ends in `_total`.
    pub(crate) fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>),
    ) {
        self.family(name, "counter", help, samples);
    }

    /// Writes a number that grows and shrinks.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, samples: impl FnOnce(&mut Family<'_>)) {
        self.family(name, "gauge", help, samples);
    }

    /// Writes durations; the name ends in `_seconds`.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>),
    ) {
        self.family(name, "histogram", help, samples);
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>),
    ) {
        // Writing into a String cannot fail, here and below.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        samples(&mut Family {
            name,
            out: &mut self.out,
        });
    }

    pub(crate) fn into_string(self) -> String {
        self.out
    }
}

impl Family<'_> {
    /// Writes one sample.
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Writes the samples of one histogram.
    pub(crate) fn spread(&mut self, labels: Labels<'_>, spread: &Spread) {
        let mut count = 0;
        for (bucket, bound) in spread.buckets.iter().zip(BOUNDS) {
            count += bucket;
            self.line("_bucket", labels, Some(&Seconds(bound)), count);
        }
        count += spread.longer;
        self.line("_bucket", labels, Some(&"+Inf"), count);
        self.line("_sum", labels, None, Seconds(spread.milliseconds));
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&dyn Display>,
        value: impl Display,
    ) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        let mut before = '{';
        for (name, value) in labels {
            let _ = write!(self.out, "{before}{name}=\"{}\"", Escaped(value));
            before = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.out, "{before}le=\"{bound}\"");
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// Milliseconds, written in seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{seconds}");
        }
        let digits = format!("{rest:03}");
        write!(f, "{seconds}.{}", digits.trim_end_matches('0'))
    }
}

/// A label's value: backslash, quote and line feed are escaped; nothing else has a meaning there.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_says_what_it_is_before_its_samples() {
        let mut text = Text::default();
        text.counter("a_total", "What.", |family| {
            family.sample(&[], 1);
            family.sample(&[("route", "/chat"), ("version", "rfc6455")], 2);
        });
        assert_eq!(
            text.into_string(),
            "# HELP a_total What.\n# TYPE a_total counter\na_total 1\na_total{route=\"/chat\",version=\"rfc6455\"} 2\n"
        );
    }

    #[test]
    fn a_label_cannot_end_its_value() {
        let mut text = Text::default();
        text.gauge("a", "What.", |family| {
            family.sample(&[("path", "/a\"b\\c\nd\tあ")], 1);
        });
        let text = text.into_string();
        assert_eq!(
            text.lines().last(),
            Some("a{path=\"/a\\\"b\\\\c\\nd\tあ\"} 1")
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let mut spread = Spread::default();
        for (place, count) in spread.buckets.iter_mut().zip([3, 2, 1]) {
            *place = count;
        }
        spread.longer = 1;
        spread.milliseconds = 61_250;
        let mut text = Text::default();
        text.histogram("a_seconds", "What.", |family| {
            family.spread(&[("app", "x")], &spread);
        });
        let text = text.into_string();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines.first(),
            Some(&"a_seconds_bucket{app=\"x\",le=\"0.001\"} 3")
        );
        assert_eq!(
            lines.get(2),
            Some(&"a_seconds_bucket{app=\"x\",le=\"0.005\"} 6")
        );
        assert_eq!(
            lines.get(9),
            Some(&"a_seconds_bucket{app=\"x\",le=\"1\"} 6")
        );
        assert_eq!(
            lines.get(14..),
            Some(
                [
                    "a_seconds_bucket{app=\"x\",le=\"+Inf\"} 7",
                    "a_seconds_sum{app=\"x\"} 61.25",
                    "a_seconds_count{app=\"x\"} 7"
                ]
                .as_slice()
            )
        );
    }
}
