//! Links of blobs: recorded once their bytes are here, or have passed by.

use std::{sync::Arc, time::Duration};

use flotilla_base::ByteLen;
use flotilla_oci::Digest;
use flotilla_registry::{
    Refusal,
    cache_rule::{Origin, Target},
};
use flotilla_runtime::Flight;
use flotilla_state::{LinkBlob, Op};
use flotilla_transfer::{Delivered, Sealing};

use super::{
    Pull,
    blob::{PROVEN, Proven},
};
use crate::ServiceError;

/// Attempts to record a link. The next pull proves it again, so losing one costs a HEAD.
const LINK_ATTEMPTS: u32 = 3;

/// A link on its way: the end of a node waits for it.
struct Pending(Arc<Pull>);

impl Pending {
    fn of(pull: Arc<Pull>) -> Self {
        pull.linking.send_modify(|linking| *linking += 1);
        Self(pull)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.linking.send_modify(|linking| *linking = linking.saturating_sub(1));
    }
}

impl Pull {
    /// Records the link of a blob that passed by: its bytes were the proof.
    pub(super) fn delivered(self: &Arc<Self>, target: &Target, origin: &Origin, digest: &Digest) -> Delivered {
        let (pull, target, proven, digest) = (self.clone(), target.clone(), self.proven(origin).ok(), *digest);
        Arc::new(move |len| {
            if let Some(proven) = &proven {
                pull.spawn_link(&target, proven.clone(), digest, len, None);
            }
        })
    }

    /// Records the link of a blob that was proven, once it is sealed. `proven` was read before upstream was asked.
    pub(super) fn spawn_link(
        self: &Arc<Self>,
        target: &Target,
        proven: Proven,
        digest: Digest,
        size: ByteLen,
        sealing: Option<Sealing>,
    ) {
        // Read now: a repository that is deleted and made again meanwhile is another one.
        let incarnation = self.view.load().tables().repository(&target.repository);
        let Ok(incarnation) = incarnation else { return };
        let link = LinkBlob {
            repository: target.repository.clone(),
            expect_incarnation: incarnation.map(|repository| repository.incarnation),
            origin: Some(proven.origin.clone()),
            digest,
            size,
            copies: Vec::new(),
        };
        let Flight::Lead(lead) = self.links.claim((target.repository.clone(), digest)) else { return };
        let pending = Pending::of(self.clone());
        self.host.tasks.spawn("link", async move {
            let pull = &pending.0;
            if let Some(sealing) = sealing
                && !sealing.sealed().await
            {
                return;
            }
            // By another rule of this prefix, or with another credential, it might not have come.
            if !pull.proven(&proven.origin).is_ok_and(|now| now == proven) {
                return;
            }
            // From here on the bytes themselves are the proof, also of an upstream that is not believed without them.
            pull.proven.put((link.repository.clone(), digest), proven, PROVEN);
            drop(lead);
            pull.record_link(link).await;
        });
    }

    /// Waits until a proof by bytes that is under way has ended; `false` when there is none.
    pub(super) async fn link_made(&self, target: &Target, digest: &Digest) -> bool {
        let Some(mut linking) = self.links.follow(&(target.repository.clone(), *digest)) else { return false };
        // Closed at its end; it publishes nothing.
        while linking.changed().await.is_ok() {}
        true
    }

    async fn record_link(&self, link: LinkBlob) {
        let (repository, digest) = (link.repository.clone(), link.digest);
        for attempt in 1..=LINK_ATTEMPTS {
            match self.proposer.propose_as_node(Op::LinkBlob(link.clone())).await {
                Ok(_) => return,
                Err(ServiceError::Refused(refusal)) => {
                    // The repository is another one by now: what was proven for it counts no more.
                    if refusal == Refusal::Moved {
                        self.proven.remove(&(repository.clone(), digest));
                    }
                    tracing::info!(%repository, %digest, %refusal, "link of a blob refused");
                    break;
                }
                Err(error) => tracing::debug!(%repository, %digest, error = %error, attempt, "link not recorded"),
            }
            let drain = self.host.tasks.drain();
            tokio::select! {
                // A link that is not recorded costs the next pull a HEAD: nothing to hold up the end of a node for.
                () = drain.begun() => break,
                () = tokio::time::sleep(Duration::from_secs(1) * attempt) => {}
            }
        }
        self.metrics.links_failed.inc();
    }
}
