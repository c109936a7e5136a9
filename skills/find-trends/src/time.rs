//! Reads the two date formats that posts come with.
//! It knows no time zones by name but UTC and GMT, and no clock. Called while posts are read.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Seconds since 1970 of an RFC 3339 or RFC 2822 date; none when it is neither.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    rfc3339(text).or_else(|| rfc2822(text))
}

fn rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || date.len() != 10 {
        return None;
    }
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let clock = clock.split('.').next()?;
    Some(days(year, month, day)? * 86_400 + time(clock)? - offset(zone)?)
}

fn rfc2822(text: &str) -> Option<i64> {
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_whitespace();
    let day = number(words.next()?)?;
    let name = words.next()?.to_lowercase();
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year = number(words.next()?)?;
    let clock = words.next()?;
    let zone = words.next().unwrap_or("GMT");
    let month = i64::try_from(month).ok()? + 1;
    Some(days(year, month, day)? * 86_400 + time(clock)? - offset(zone)?)
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Seconds since midnight of `HH:MM[:SS]`.
fn time(clock: &str) -> Option<i64> {
    let mut parts = clock.split(':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0), number)?;
    (hours < 24 && minutes < 60 && seconds <= 60).then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Seconds east of UTC of `Z`, `GMT`, `+02:00` or `-0500`.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return matches!(zone.to_ascii_uppercase().as_str(), "Z" | "UT" | "UTC" | "GMT").then_some(0),
    };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2026-01-01T00:00:00Z"), Some(1_767_225_600));
        assert_eq!(seconds("2026-01-01T02:00:00.123+02:00"), Some(1_767_225_600));
        assert_eq!(seconds("Thu, 01 Jan 2026 00:00:00 GMT"), Some(1_767_225_600));
        assert_eq!(seconds("1 Jan 2026 00:00 -0500"), Some(1_767_225_600 + 5 * 3600));
        assert_eq!(seconds("2024-02-29T00:00:00Z").map(|it| it % 86_400), Some(0));
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T25:00:00Z",
            "1 Foo 2026 00:00 GMT",
            "2026-01-01T00:00:00+ä",
            "99999-01-01T00:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
