//! Durations and sizes as they are written, with their unit: `25s`, `1MiB`. Knows no key.

use std::fmt;
use std::time::Duration;

/// Longest duration, in milliseconds: a year. Deadlines are sums of durations and must not overflow.
const MAX_MILLISECONDS: u64 = 8_760 * 3_600_000;

/// A text that is no duration or size, and what would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoUnit {
    pub(crate) message: &'static str,
    pub(crate) help: String,
}

/// Reads `100ms`, `25s`, `1m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, NoUnit> {
    let no = |message| NoUnit {
        message,
        help: duration_help(text),
    };
    let (digits, unit) = split(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(no("a duration needs its unit")),
        _ => return Err(no("this is no duration")),
    };
    if digits.is_empty() {
        return Err(no("this is no duration"));
    }
    // More digits than a number holds are too many of any unit.
    let number = digits.parse().unwrap_or(u64::MAX);
    number
        .checked_mul(factor)
        .filter(|milliseconds| *milliseconds <= MAX_MILLISECONDS)
        .map(Duration::from_millis)
        .ok_or(NoUnit {
            message: "this is too long",
            help: "write at most \"8760h\"".to_owned(),
        })
}

/// Reads `128B`, `64KiB`, `1MiB`, `1GiB`; bytes.
pub(crate) fn size(text: &str) -> Result<usize, NoUnit> {
    let no = |message| NoUnit {
        message,
        help: size_help(text),
    };
    let (digits, unit) = split(text);
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(no("a size needs its unit")),
        _ => return Err(no("this is no size")),
    };
    if digits.is_empty() {
        return Err(no("this is no size"));
    }
    let number = digits.parse().unwrap_or(u64::MAX);
    number
        .checked_mul(factor)
        // isize::MAX is what any buffer may hold.
        .and_then(|bytes| isize::try_from(bytes).ok())
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(NoUnit {
            message: "this is too large",
            help: "write a size that fits into memory".to_owned(),
        })
}

/// Says what would be right instead of `text`: the same number in a unit we have, if one can be guessed.
fn duration_help(text: &str) -> String {
    let (digits, unit) = split(text);
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        _ if digits.is_empty() => None,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "msec" | "millis" | "milliseconds" | "ms" => Some("ms"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hour" | "hours" | "hr" | "hrs" => Some("h"),
        _ => None,
    };
    match meant {
        Some(unit) => format!("write \"{digits}{unit}\" (units: ms, s, m, h)"),
        None => {
            "write a whole number and its unit, such as \"25s\" (units: ms, s, m, h)".to_owned()
        }
    }
}

fn size_help(text: &str) -> String {
    let (digits, unit) = split(text);
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        _ if digits.is_empty() => None,
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        "" | "b" | "byte" | "bytes" => None,
        _ => {
            return "write a whole number and its unit, such as \"1MiB\" (units: B, KiB, MiB, GiB)"
                .to_owned();
        }
    };
    match meant {
        Some(unit) => format!("write \"{digits}{unit}\" (units: B, KiB, MiB, GiB)"),
        None if digits.is_empty() => {
            "write a whole number and its unit, such as \"1MiB\" (units: B, KiB, MiB, GiB)"
                .to_owned()
        }
        None => {
            let bytes = digits
                .parse::<usize>()
                .map_or_else(|_| format!("{digits}B"), |bytes| Size(bytes).to_string());
            format!("write \"{bytes}\" (units: B, KiB, MiB, GiB)")
        }
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit)
}

/// Shows bytes as they are written in a file: in the largest unit that leaves no rest.
pub(crate) struct Size(pub(crate) usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let number = self.0 >> shift;
            if number > 0 && number << shift == self.0 {
                return write!(f, "{number}{unit}");
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        fn check(text: &str, milliseconds: u64) {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        check("100ms", 100);
        check("25s", 25_000);
        check("1m", 60_000);
        check("1h", 3_600_000);
        check("0s", 0);
        check("8760h", MAX_MILLISECONDS);
    }

    #[test]
    fn what_is_no_duration_is_told_what_is() {
        fn check(text: &str, message: &str, help: &str) {
            let error = duration(text).unwrap_err();
            assert_eq!((error.message, error.help.as_str()), (message, help));
        }
        let any = "write a whole number and its unit, such as \"25s\" (units: ms, s, m, h)";
        check(
            "25",
            "a duration needs its unit",
            "write \"25s\" (units: ms, s, m, h)",
        );
        check(
            "25 sec",
            "this is no duration",
            "write \"25s\" (units: ms, s, m, h)",
        );
        check(
            "5min",
            "this is no duration",
            "write \"5m\" (units: ms, s, m, h)",
        );
        check(
            "5S",
            "this is no duration",
            "write \"5s\" (units: ms, s, m, h)",
        );
        check(
            "5 s",
            "this is no duration",
            "write \"5s\" (units: ms, s, m, h)",
        );
        check("2d", "this is no duration", any);
        check("", "a duration needs its unit", any);
        check("s", "this is no duration", any);
        check("1.5s", "this is no duration", any);
        check("-1s", "this is no duration", any);
        check("1m30s", "this is no duration", any);
        check("8761h", "this is too long", "write at most \"8760h\"");
        check(
            "99999999999999999999s",
            "this is too long",
            "write at most \"8760h\"",
        );
    }

    #[test]
    fn a_size_has_a_unit() {
        fn check(text: &str, bytes: usize) {
            assert_eq!(size(text), Ok(bytes));
        }
        check("128B", 128);
        check("64KiB", 65_536);
        check("1MiB", 1_048_576);
        check("2GiB", 2 << 30);
    }

    #[test]
    fn what_is_no_size_is_told_what_is() {
        fn check(text: &str, message: &str, help: &str) {
            let error = size(text).unwrap_err();
            assert_eq!((error.message, error.help.as_str()), (message, help));
        }
        let units = "(units: B, KiB, MiB, GiB)";
        let needs = "a size needs its unit";
        check("1048576", needs, &format!("write \"1MiB\" {units}"));
        check("1000", needs, &format!("write \"1000B\" {units}"));
        check(
            "16MB",
            "this is no size",
            &format!("write \"16MiB\" {units}"),
        );
        check(
            "16m",
            "this is no size",
            &format!("write \"16MiB\" {units}"),
        );
        check(
            "",
            needs,
            &format!("write a whole number and its unit, such as \"1MiB\" {units}"),
        );
        check(
            "9999999999GiB",
            "this is too large",
            "write a size that fits into memory",
        );
    }

    #[test]
    fn a_size_is_shown_as_it_is_written() {
        for text in ["1MiB", "64KiB", "128B", "1GiB", "1025B", "0B"] {
            assert_eq!(Size(size(text).unwrap()).to_string(), text);
        }
    }
}
