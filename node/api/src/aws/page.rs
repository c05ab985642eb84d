//! Pages of a listing. A token carries the last key that was shown, so it is good on every node, after a restart, and
//! when what it names is gone (`ecr-api.md` §1.2).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use flotilla_aws::{Operation, validate::InvalidParameter};

const VERSION: &str = "1";
const DEFAULT_LIMIT: usize = 100;
/// Longer than any key: a digest and a tag.
const MAX_TOKEN_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Page {
    /// Show what comes after this.
    pub(super) after: Option<String>,
    limit: usize,
}

impl Page {
    /// # Errors
    /// For a token that this operation did not give.
    pub(super) fn read<O: Operation>(
        next_token: Option<&str>,
        max_results: Option<i64>,
    ) -> Result<Self, InvalidParameter> {
        let after = next_token.map(open::<O>).transpose()?;
        let limit = max_results.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT);
        Ok(Self { after, limit })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// One more than is shown: whether there is a next page.
    pub(super) fn fetch(&self) -> usize {
        self.limit.saturating_add(1)
    }

    /// Cuts what was fetched to the page, and makes the token of the next one.
    pub(super) fn cut<O: Operation, T>(&self, entries: &mut Vec<T>, key: impl Fn(&T) -> String) -> Option<String> {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        entries.last().filter(|_| more).map(|last| token::<O>(&key(last)))
    }
}

pub(super) fn token<O: Operation>(key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{VERSION}\n{}\n{key}", O::NAME))
}

pub(super) fn foreign_token() -> InvalidParameter {
    InvalidParameter::new("nextToken", "is not a token of this operation")
}

fn open<O: Operation>(token: &str) -> Result<String, InvalidParameter> {
    let decoded = (token.len() <= MAX_TOKEN_BYTES)
        .then(|| BASE64_URL_SAFE_NO_PAD.decode(token).ok())
        .flatten()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let mut parts = decoded.as_deref().unwrap_or_default().splitn(3, '\n');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(VERSION), Some(operation), Some(key)) if operation == O::NAME && !key.is_empty() => Ok(key.to_owned()),
        _ => Err(foreign_token()),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_aws::ecr::{DescribeRepositories, ListImages};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_goes_on_behind_the_one_before() {
        let all: Vec<String> = (0..7).map(|i| format!("r{i}")).collect();
        let (mut shown, mut next) = (Vec::new(), None);
        loop {
            let page = Page::read::<DescribeRepositories>(next.as_deref(), Some(3)).unwrap();
            let rest = all.iter().filter(|name| page.after.as_ref().is_none_or(|after| *name > after));
            let mut entries: Vec<String> = rest.take(page.fetch()).cloned().collect();
            next = page.cut::<DescribeRepositories, _>(&mut entries, Clone::clone);
            shown.extend(entries);
            if next.is_none() {
                break;
            }
        }
        assert_eq!(shown, all);
    }

    #[test]
    fn a_token_of_another_operation_or_version_is_refused() {
        let other = token::<ListImages>("x");
        assert!(Page::read::<ListImages>(Some(&other), None).is_ok());
        assert!(Page::read::<DescribeRepositories>(Some(&other), None).is_err());
        for bad in ["", "!", "TOK1", &BASE64_URL_SAFE_NO_PAD.encode("2\nListImages\nx"), &"A".repeat(2000)] {
            assert_eq!(Page::read::<ListImages>(Some(bad), None).unwrap_err().member, "nextToken", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn tokens_round_trip_and_garbage_is_refused(key in ".{1,200}", garbage in ".{0,80}") {
            let page = Page::read::<ListImages>(Some(&token::<ListImages>(&key)), None).unwrap();
            prop_assert_eq!(page.after.unwrap(), key);
            prop_assert!(Page::read::<ListImages>(Some(&garbage), None).is_err());
        }
    }
}
