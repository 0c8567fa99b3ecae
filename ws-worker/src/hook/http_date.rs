//! Moments as HTTP writes them: the form of today and the two of old, all of which are to be understood. Pure.
//! [RFC 9110, 5.6.7]

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Reads a date as seconds since 1970; `now` in the same unit says which century two digits of a year mean. The day of
/// the week is not looked at: it says nothing that the date does not say.
pub(crate) fn parse(text: &[u8], now: u64) -> Option<u64> {
    let mut words = text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let weekday = words.next()?;
    let (day, month, year, time) = if weekday.ends_with(b",") {
        let second = words.next()?;
        let date = if second.contains(&b'-') {
            // Sunday, 06-Nov-94 08:49:37 GMT
            let mut parts = second.split(|byte| *byte == b'-');
            let date = (number(parts.next()?, 2)?, month(parts.next()?)?);
            let year = century(number(parts.next()?, 2)?, now)?;
            parts.next().is_none().then_some((date.0, date.1, year))?
        } else {
            // Sun, 06 Nov 1994 08:49:37 GMT
            (
                number(second, 2)?,
                month(words.next()?)?,
                number(words.next()?, 4)?,
            )
        };
        let time = words.next()?;
        if words.next()? != b"GMT" {
            return None;
        }
        (date.0, date.1, date.2, time)
    } else {
        // Sun Nov  6 08:49:37 1994
        let month = month(words.next()?)?;
        let day = words.next()?;
        let day = number(day, day.len().min(2))?;
        let time = words.next()?;
        (day, month, number(words.next()?, 4)?, time)
    };
    if words.next().is_some() {
        return None;
    }
    let mut parts = time.split(|byte| *byte == b':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = number(parts.next()?, 2)?;
    let is_time = parts.next().is_none() && hour < 24 && minute < 60 && second <= 60; // A leap second is one.
    if !is_time || day == 0 || day > days_of(year, month) {
        return None;
    }
    let days = days_since_1970(year, month, day)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(digits: &[u8], length: usize) -> Option<u64> {
    if digits.len() != length || digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// From 1.
fn month(name: &[u8]) -> Option<u64> {
    let place = MONTHS.iter().position(|month| *month == name)?;
    Some(place as u64 + 1)
}

/// What seems to be more than fifty years ahead is the last such year of the past.
fn century(two_digits: u64, now: u64) -> Option<u64> {
    let this_year = 1970 + now / 31_556_952;
    let year = this_year / 100 * 100 + two_digits;
    if year > this_year + 50 {
        year.checked_sub(100)
    } else {
        Some(year)
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let before = year.checked_sub(1970).map(|_| year - 1)?;
    let leap_days = before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    Some((year - 1970) * 365 + leap_days + months + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_230_000; // In 2026.

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text.as_bytes(), NOW), expected, "{text}");
    }

    #[test]
    fn the_three_forms_are_understood() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 16 08:49:37 1994", Some(784_975_777));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Thu, 29 Feb 2024 23:59:60 GMT", Some(1_709_251_200));
        check("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200));
        check("Wed, 21 Oct 2026 07:28:00 GMT", Some(1_792_567_680));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
    }

    #[test]
    fn two_digits_of_a_year_are_never_more_than_fifty_years_ahead() {
        check("Tuesday, 01-Jan-76 00:00:00 GMT", Some(3_345_062_400)); // 2076
        check("Saturday, 01-Jan-77 00:00:00 GMT", Some(220_924_800)); // 1977
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            " ",
            "7",
            "-1",
            "Sun,",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT x",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov 08:49:37 GMT",
            "Sun, 06-Nov-94-1 08:49:37 GMT",
            "Sun Nov 006 08:49:37 1994",
            "Sun Nov 6 08:49:37 94",
            "Sun Nov 6 08:49:37:1 1994",
        ] {
            check(text, None);
        }
    }
}
