//! Range of RFC 9110, 14.2, for bytes.

use flotilla_base::ByteRange;

/// Ranges of one request. podman asks for up to 1,024 chunks of a zstd:chunked layer at once, and for fewer after a 400.
const MAX_RANGES: usize = 1024;

/// What a Range header asks of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The header is none that must be obeyed.
    Whole,
    /// In the order of the request, none empty, none overlapping; at least one.
    Ranges(Vec<ByteRange>),
    Unsatisfiable,
    TooMany,
}

/// Ranges that overlap are answered with the whole body, which the RFC allows: no honest client sends them, and each
/// part would be read anew. None are merged: podman matches parts to its request by their position.
pub(super) fn parse(header: &str, len: u64) -> Wanted {
    let Some((unit, specs)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut ranges = Vec::new();
    let mut asked = 0usize;
    for spec in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        asked += 1;
        if asked > MAX_RANGES {
            return Wanted::TooMany;
        }
        match resolve(spec, len) {
            Err(Malformed) => return Wanted::Whole,
            Ok(None) => {}
            Ok(Some(range)) => ranges.push(range),
        }
    }
    if asked == 0 || overlap(&ranges) {
        Wanted::Whole
    } else if ranges.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Ranges(ranges)
    }
}

struct Malformed;

/// `None` for a range that the body has nothing of.
fn resolve(spec: &str, len: u64) -> Result<Option<ByteRange>, Malformed> {
    let (first, last) = spec.split_once('-').ok_or(Malformed)?;
    let (start, end) = match (position(first.trim())?, position(last.trim())?) {
        (None, None) => return Err(Malformed),
        (None, Some(suffix)) => (len.saturating_sub(suffix), len),
        (Some(first), None) => (first, len),
        (Some(first), Some(last)) if last < first => return Err(Malformed),
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(len)),
    };
    Ok((start < end).then_some(ByteRange { start, end }))
}

/// A position beyond any body is as good as the largest.
fn position(text: &str) -> Result<Option<u64>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Malformed);
    }
    Ok(Some(text.parse().unwrap_or(u64::MAX)))
}

fn overlap(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    sorted.iter().zip(sorted.iter().skip(1)).any(|(left, right)| right.start < left.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Wanted {
        Wanted::Ranges(list.iter().map(|&(start, end)| ByteRange { start, end }).collect())
    }

    #[test]
    fn ranges_mean_what_the_rfc_says() {
        for (header, wanted) in [
            ("bytes=0-4", ranges(&[(0, 5)])),
            ("Bytes = 0-4", ranges(&[(0, 5)])),
            ("bytes=5-", ranges(&[(5, 10)])),
            ("bytes=-3", ranges(&[(7, 10)])),
            ("bytes=-99", ranges(&[(0, 10)])),
            ("bytes=9-99", ranges(&[(9, 10)])),
            ("bytes=0-99999999999999999999999", ranges(&[(0, 10)])),
            ("bytes=6-7, 0-1", ranges(&[(6, 8), (0, 2)])),
            ("bytes=0-1,2-3", ranges(&[(0, 2), (2, 4)])),
            ("bytes=0-1,10-", ranges(&[(0, 2)])),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=0-5,3-8", Wanted::Whole),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=0x1-2", Wanted::Whole),
            ("items=0-4", Wanted::Whole),
            ("bytes", Wanted::Whole),
        ] {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        let many = |n: u64| (0..n).map(|i| format!("{}-{}", 2 * i, 2 * i)).collect::<Vec<_>>().join(",");
        assert!(matches!(parse(&format!("bytes={}", many(1024)), 1 << 20), Wanted::Ranges(all) if all.len() == 1024));
        assert_eq!(parse(&format!("bytes={}", many(1025)), 1 << 20), Wanted::TooMany);
    }

    proptest! {
        #[test]
        fn every_byte_that_is_asked_for_is_sent_once(
            len in 0u64..30,
            specs in proptest::collection::vec((proptest::option::of(0u64..40), proptest::option::of(0u64..40)), 1..4),
        ) {
            let text = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
            let header: Vec<String> = specs.iter().map(|(a, b)| format!("{}-{}", text(*a), text(*b))).collect();
            // The definition, byte by byte.
            let asked = |byte: u64, (first, last): &(Option<u64>, Option<u64>)| match (first, last) {
                (None, Some(suffix)) => byte + suffix >= len,
                (Some(first), None) => byte >= *first,
                (Some(first), Some(last)) => (*first..=*last).contains(&byte),
                (None, None) => false,
            };
            let times = |byte: u64| specs.iter().filter(|spec| asked(byte, spec)).count();
            match parse(&format!("bytes={}", header.join(",")), len) {
                Wanted::Ranges(found) => for byte in 0..len {
                    let sent = found.iter().filter(|range| (range.start..range.end).contains(&byte)).count();
                    prop_assert_eq!(sent, times(byte));
                    prop_assert!(sent <= 1);
                },
                Wanted::Unsatisfiable => prop_assert!((0..len).all(|byte| times(byte) == 0)),
                Wanted::Whole => {
                    let malformed = specs.iter().any(|spec| match spec {
                        (None, None) => true,
                        (Some(first), Some(last)) => last < first,
                        _ => false,
                    });
                    prop_assert!(malformed || (0..len).any(|byte| times(byte) > 1));
                }
                Wanted::TooMany => prop_assert!(false),
            }
        }

        #[test]
        fn no_header_panics(header in ".{0,40}", len: u64) {
            let _ = parse(&header, len);
            let _ = parse(&format!("bytes={header}"), len);
        }
    }
}
