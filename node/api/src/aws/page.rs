//! Pages of a listing. A token carries the last key that was looked at, sealed, so it is good on every node, after a
//! restart, and when what it names is gone (`ecr-api.md` §1.2); and it tells nobody what he may not see.

use flotilla_aws::{Operation, validate::InvalidParameter};
use flotilla_service::ServiceError;

use super::Call;

const DEFAULT_LIMIT: usize = 100;

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
        call: Call<'_>,
        next_token: Option<&str>,
        max_results: Option<i64>,
    ) -> Result<Self, InvalidParameter> {
        let open = |token: &str| {
            let access = &call.services().access;
            access.open_page_token(call.permit.caller(), O::NAME, token).ok_or_else(foreign_token)
        };
        let after = next_token.map(open).transpose()?;
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
    ///
    /// # Errors
    /// As [`token`].
    pub(super) fn cut<O: Operation, T>(
        &self,
        call: Call<'_>,
        entries: &mut Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<Option<String>, ServiceError> {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        entries.last().filter(|_| more).map(|last| token::<O>(call, &key(last))).transpose()
    }
}

/// # Errors
/// Before a cluster is founded.
pub(super) fn token<O: Operation>(call: Call<'_>, key: &str) -> Result<String, ServiceError> {
    call.services().access.page_token(call.permit.caller(), O::NAME, key)
}

pub(super) fn foreign_token() -> InvalidParameter {
    InvalidParameter::new("nextToken", "is not a token of this operation")
}
