use std::sync::Arc;

use flotilla_oci::Tag;
use flotilla_registry::cache_rule::Target;

use super::{Pull, Refreshed, Validation, failure::Failure, filtered};
use crate::{Caller, ServiceError};

/// Tags that are read at once.
const PAGE: usize = 100;

impl Pull {
    pub(super) async fn refresh_tags(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        tag: Option<&Tag>,
    ) -> Result<Vec<Refreshed>, ServiceError> {
        if let Some(rule) = &target.filtered_by {
            return Err(filtered(target, rule));
        }
        if target.origin.is_none() {
            let why = "no pull through cache rule covers it".to_owned();
            return Err(ServiceError::Invalid { member: "repositoryName", why });
        }
        if let Some(tag) = tag {
            return Ok(vec![self.refresh_tag(caller, target, tag).await]);
        }
        let mut refreshed = Vec::new();
        let mut after: Option<Tag> = None;
        loop {
            let page = self.view.load().tables().tags(&target.repository, after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(refreshed) };
            after = Some(last.clone());
            // One by one: whoever asks for all tags has time, and the upstream's limits are for pulls.
            for (tag, _) in &page {
                refreshed.push(self.refresh_tag(caller, target, tag).await);
            }
        }
    }

    async fn refresh_tag(self: &Arc<Self>, caller: &Caller, target: &Target, tag: &Tag) -> Refreshed {
        let refreshed = |digest, previous, validation| Refreshed { tag: tag.clone(), digest, previous, validation };
        match self.check(caller, target, tag, true).await {
            Ok(checked) => refreshed(Some(checked.served.digest), checked.previous, checked.validation),
            Err(Failure::Absent) => refreshed(None, None, Validation::MissingUpstream),
            Err(failure) => refreshed(None, None, Validation::UpstreamFailed(failure.explain())),
        }
    }
}
