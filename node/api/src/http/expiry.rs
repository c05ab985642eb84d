//! When a certificate ends. Of DER only as much as leads there (RFC 5280, 4.1).

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Seconds since 1970 at the end of a certificate's validity; `None` for what is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = enter(certificate, SEQUENCE)?;
    let (mut body, _) = enter(certificate, SEQUENCE)?;
    // The version is left out where it is 1.
    if body.first() == Some(&VERSION) {
        (_, body) = enter(body, VERSION)?;
    }
    (_, body) = enter(body, INTEGER)?;
    // The signature's algorithm, the issuer.
    (_, body) = enter(body, SEQUENCE)?;
    (_, body) = enter(body, SEQUENCE)?;
    let (validity, _) = enter(body, SEQUENCE)?;
    let (_, _, end) = element(validity)?;
    let (tag, text, _) = element(end)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The content of the first element, which must have `tag`, and what is behind it.
fn enter(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ`, or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &str) -> Option<i64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits(text, 2)?;
            // What two digits mean.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => digits(text, 4)?,
        _ => return None,
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    let valid = rest == "Z" && (1..=12).contains(&month) && (1..=31).contains(&day);
    (valid && hour < 24 && minute < 60 && second <= 60)
        .then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn digits(text: &str, count: usize) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    digits.bytes().all(|c| c.is_ascii_digit()).then_some(())?;
    Some((digits.parse().ok()?, rest))
}

/// Days from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`), for years
/// from 0 on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(end: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (end, seconds) in
            [((2027, 3, 1), 1_803_859_200), ((2049, 12, 31), 2_524_521_600), ((2100, 1, 1), 4_102_444_800)]
        {
            assert_eq!(not_after(&certificate(end)), Some(seconds), "{end:?}");
        }
        assert_eq!(time(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, "000229010203Z"), Some(951_786_123));
        for bad in ["", "700101000000", "701301000000Z", "7001010000+1Z", "+10101000000Z"] {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn damaged_certificates_do_not_panic(at in 0usize..200, byte in any::<u8>(), len in 0usize..400) {
            let mut der = certificate((2027, 3, 1));
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = not_after(&der[..len.min(der.len())]);
        }
    }
}
