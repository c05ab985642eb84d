//! Blobs: through a link, or through a proof that becomes one.

use std::{sync::Arc, time::Duration};

use flotilla_base::ByteLen;
use flotilla_oci::{Digest, Name};
use flotilla_registry::cache_rule::{Origin, Target};
use flotilla_runtime::{Flight, Lead};
use flotilla_transfer::{Blob, TransferError, Wanted};
use flotilla_upstream::{Class, UpstreamError};
use tokio::sync::oneshot;

use super::{Freshness, Pull, ServedBlob, Source, failure::Failure, turns::Standing};
use crate::{Caller, ServiceError, limits::Payer};

/// How long a proof counts before its link must be there: longer than the fill of a large blob.
pub(super) const PROVEN: Duration = Duration::from_secs(3600);

/// How long a length that an upstream told is believed without asking again.
const LEN_KNOWN: Duration = Duration::from_secs(60);

/// How often a pull starts again that met a fill or a proof in its last moment.
const ATTEMPTS: usize = 4;

/// A blob may be served through a repository that has no link to it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) origin: Origin,
    rule_version: u64,
}

/// What the one who proves tells the others who wait for the same blob in the same repository.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// The upstream has it, and is believed.
    Has,
    /// It is not believed without its bytes, and is delivering them.
    Delivers,
    /// It is not believed, and the blob is here from somewhere else: each client gets what the upstream delivers.
    MustDeliver,
    Not(Failure),
}

/// What a proof is about, and for whom.
struct Proving<'a> {
    payer: Payer,
    target: &'a Target,
    origin: &'a Origin,
    wanted: &'a Wanted,
    standing: Arc<Standing<(Name, Digest)>>,
}

impl Pull {
    pub(super) async fn serve_blob(
        self: &Arc<Self>,
        caller: &Caller,
        target: &Target,
        digest: &Digest,
    ) -> Result<ServedBlob, ServiceError> {
        let blob = self.find_blob(caller, target, digest).await;
        blob.map(served).map_err(|failure| self.missing(target, failure.of_blob(&target.repository, digest)))
    }

    async fn find_blob(self: &Arc<Self>, caller: &Caller, target: &Target, digest: &Digest) -> Result<Blob, Failure> {
        let mut wanted = Wanted { digest: *digest, len: None, origin: target.origin.clone(), class: caller.class() };
        for _ in 0..ATTEMPTS {
            if let Some(size) = self.link(&target.repository, digest)? {
                wanted.len = Some(size);
                return self.open_linked(caller, &wanted).await;
            }
            let Some(origin) = &target.origin else { break };
            if self.is_proven(target, origin, digest) {
                return self.open(caller, &wanted).await;
            }
            let key = (target.repository.clone(), *digest);
            let standing = self.proof_turns.join(&key, wanted.class);
            let mut flight = match self.proofs.follow(&key) {
                Some(flight) => flight,
                None => {
                    let payer = self.limits.payer(caller);
                    self.limits.miss(&payer, false)?;
                    match self.proofs.claim(key) {
                        Flight::Follow(flight) => flight,
                        Flight::Lead(lead) => {
                            let task = Proving { payer, target, origin, wanted: &wanted, standing };
                            match self.prove(task, lead).await? {
                                Some(blob) => return Ok(blob),
                                None => continue,
                            }
                        }
                    }
                }
            };
            let verdict = flight.wait_for(Option::is_some).await.ok().and_then(|verdict| verdict.clone());
            match verdict {
                // Under another rule, or another credential, it proves nothing: the next round asks again.
                Some(Verdict::Has) if !self.is_proven(target, origin, digest) => {}
                Some(Verdict::Has) => return self.open(caller, &wanted).await,
                Some(Verdict::MustDeliver) => {
                    let payer = self.limits.payer(caller);
                    self.limits.miss(&payer, false)?;
                    return self.must_deliver(&payer, target, origin, &wanted).await;
                }
                // Joined too late to raise it; the next round proves for this caller.
                Some(Verdict::Not(failure)) if failure.is_of_its_class() && wanted.class > Class::Anonymous => {}
                // What the other's request came through, or claims to have, says nothing about this one.
                Some(Verdict::Not(failure)) if failure.is_circle() => {}
                Some(Verdict::Not(failure)) => return Err(failure),
                Some(Verdict::Delivers) => {
                    let done = self.delivered(target, origin, digest);
                    if let Some(blob) = self.transfer.open_unproven(&wanted, &standing.turn(), &done).await? {
                        self.owe_for_passing(caller, &blob);
                        return Ok(blob);
                    }
                    // Sealed by now, and on its way to be linked.
                    self.link_made(target, digest).await;
                }
                // The prover left; the next one proves.
                None => {}
            }
        }
        if target.origin.is_some() {
            return Err(Failure::Busy);
        }
        self.barrier().await?;
        wanted.len = Some(self.link(&target.repository, digest)?.ok_or(Failure::Absent)?);
        self.open_linked(caller, &wanted).await
    }

    /// What is linked was here. That it is not now is no absence unless its own upstream says so.
    async fn open_linked(&self, caller: &Caller, wanted: &Wanted) -> Result<Blob, Failure> {
        match self.open(caller, wanted).await {
            Err(Failure::Absent) if wanted.origin.is_none() => {
                Err(Failure::Transfer(TransferError::Lost(wanted.digest)))
            }
            opened => opened,
        }
    }

    /// What is linked or proven. Who has an upstream asked for it pays, and nobody else.
    async fn open(&self, caller: &Caller, wanted: &Wanted) -> Result<Blob, Failure> {
        if let Some(blob) = self.transfer.open_begun(wanted).await? {
            self.owe_for_passing(caller, &blob);
            return Ok(blob);
        }
        let payer = self.limits.payer(caller);
        self.limits.miss(&payer, false)?;
        let blob = self.transfer.open(wanted).await?;
        self.owe(&payer, &blob);
        Ok(blob)
    }

    /// The bytes that upstream sends from now on for who began this.
    fn owe(&self, payer: &Payer, blob: &Blob) {
        match blob {
            Blob::Local(reader) if reader.sealing().is_none() => {}
            blob => self.limits.owe(payer, blob.len()),
        }
    }

    /// For who joined: only what upstream sends to him alone.
    fn owe_for_passing(&self, caller: &Caller, blob: &Blob) {
        if let Blob::Through { len, .. } = blob {
            self.limits.owe(&self.limits.payer(caller), *len);
        }
    }

    /// Proves that the repository's own upstream has the blob, for all who wait; asking for the blob is the proof, and
    /// where it is here already a HEAD is. The proof goes on when the client leaves: what was begun for it shall count.
    /// `None`: the link came meanwhile.
    async fn prove(
        self: &Arc<Self>,
        task: Proving<'_>,
        lead: Lead<(Name, Digest), Verdict>,
    ) -> Result<Option<Blob>, Failure> {
        let Proving { payer, target, origin, wanted, standing } = task;
        let (tell, told) = oneshot::channel();
        let prover = (self.clone(), target.clone(), origin.clone(), wanted.clone());
        let pays = payer.clone();
        self.host.tasks.spawn("proof", async move {
            let (pull, target, origin, wanted) = prover;
            let proof = pull.proof(&target, &origin, &wanted, &standing).await;
            if let Ok(Some((_, Some(blob)))) = &proof {
                pull.owe(&pays, blob);
            }
            match &proof {
                Ok(Some((verdict, _))) => lead.publish(verdict.clone()),
                Ok(None) => {}
                Err(failure) => lead.publish(Verdict::Not(failure.clone())),
            }
            drop(lead);
            // Who asked may have left.
            let _ = tell.send(proof);
        });
        match told.await.unwrap_or_else(|_| Err(Failure::abandoned()))? {
            Some((_, Some(blob))) => Ok(Some(blob)),
            Some((Verdict::MustDeliver, None)) => self.must_deliver(&payer, target, origin, wanted).await.map(Some),
            Some((_, None)) => Ok(Some(self.transfer.open(wanted).await?)),
            None => Ok(None),
        }
    }

    /// The verdict, and the blob when proving it has opened it.
    async fn proof(
        self: &Arc<Self>,
        target: &Target,
        origin: &Origin,
        wanted: &Wanted,
        standing: &Standing<(Name, Digest)>,
    ) -> Result<Option<(Verdict, Option<Blob>)>, Failure> {
        // Between the look for a link and the lead another proof may have ended.
        if self.link(&target.repository, &wanted.digest)?.is_some() || self.is_proven(target, origin, &wanted.digest) {
            return Ok(None);
        }
        let proven = self.proven(origin)?;
        let trusted = self.transfer.is_trusted(origin);
        let done = self.delivered(target, origin, &wanted.digest);
        let turn = standing.turn();
        let opened = tokio::select! {
            opened = self.transfer.open_unproven(wanted, &turn, &done) => opened?,
            // Who waits for the proof waits for the fill that is the proof.
            () = standing.rises(|class| self.transfer.raise(&wanted.digest, class)) => None,
        };
        if let Some(blob) = opened {
            if trusted {
                self.proven.put((target.repository.clone(), wanted.digest), proven.clone(), PROVEN);
                if let Blob::Local(reader) = &blob {
                    self.spawn_link(target, proven, wanted.digest, blob.len(), reader.sealing());
                }
                return Ok(Some((Verdict::Has, Some(blob))));
            }
            if let Blob::Local(reader) = &blob {
                self.spawn_link(target, proven, wanted.digest, blob.len(), reader.sealing());
                return Ok(Some((Verdict::Delivers, Some(blob))));
            }
            // It passes by, to this client alone.
            return Ok(Some((Verdict::MustDeliver, Some(blob))));
        }
        if !trusted {
            let linking = self.link_made(target, &wanted.digest).await;
            return Ok((!linking).then_some((Verdict::MustDeliver, None)));
        }
        let proof = self.transfer.prove(&wanted.digest, origin, turn).await?;
        let size = match self.transfer.held(&wanted.digest).await? {
            Some(held) => Some(held.len()),
            None => self.view.load().tables().blob(&wanted.digest)?.and_then(|blob| blob.size),
        };
        if let (Some(told), Some(size)) = (proof.len, size)
            && told != size
        {
            return Err(Failure::Transfer(TransferError::Mismatch(wanted.digest)));
        }
        self.proven.put((target.repository.clone(), wanted.digest), proven.clone(), PROVEN);
        let blob = self.transfer.open(wanted).await?;
        if let Blob::Local(reader) = &blob {
            self.spawn_link(target, proven, wanted.digest, blob.len(), reader.sealing());
        }
        Ok(Some((Verdict::Has, Some(blob))))
    }

    /// The upstream's own bytes, whatever is here; the link follows when all of them were right.
    async fn must_deliver(
        self: &Arc<Self>,
        payer: &Payer,
        target: &Target,
        origin: &Origin,
        wanted: &Wanted,
    ) -> Result<Blob, Failure> {
        let blob = self.transfer.through(wanted, &self.delivered(target, origin, &wanted.digest)).await?;
        self.owe(payer, &blob);
        Ok(blob)
    }

    pub(super) async fn serve_blob_len(
        &self,
        caller: &Caller,
        target: &Target,
        digest: &Digest,
    ) -> Result<ByteLen, ServiceError> {
        let len = self.find_blob_len(caller, target, digest).await;
        len.map_err(|failure| self.missing(target, failure.of_blob(&target.repository, digest)))
    }

    async fn find_blob_len(&self, caller: &Caller, target: &Target, digest: &Digest) -> Result<ByteLen, Failure> {
        if let Some(size) = self.link(&target.repository, digest)? {
            return Ok(size);
        }
        let Some(origin) = &target.origin else {
            self.barrier().await?;
            return self.link(&target.repository, digest)?.ok_or(Failure::Absent);
        };
        let key = (target.repository.clone(), *digest);
        let proven = self.proven(origin)?;
        if let Some((_, len)) = self.lens.get(&key).filter(|(under, _)| *under == proven) {
            return Ok(len);
        }
        if self.is_proven(target, origin, digest)
            && let Some(held) = self.transfer.held(digest).await?
        {
            return Ok(held.len());
        }
        self.limits.miss(&self.limits.payer(caller), false)?;
        let told = self.transfer.prove(digest, origin, caller.class().into()).await?.len;
        // How long it is may be known here though that host does not tell. Not for one that is not believed: that it has
        // the blob is not proven, and the answer would tell it what others hold.
        let known = || self.view.load().tables().blob(digest).map(|blob| blob.and_then(|blob| blob.size));
        let known = if told.is_none() && self.transfer.is_trusted(origin) { known()? } else { None };
        let len = told.or(known).ok_or_else(|| {
            let host = origin.rule.as_str().into();
            Failure::Upstream(UpstreamError::Malformed { host, reason: "a HEAD without a length" })
        })?;
        self.lens.put(key, (proven, len), LEN_KNOWN);
        Ok(len)
    }

    fn link(&self, repository: &Name, digest: &Digest) -> Result<Option<ByteLen>, Failure> {
        Ok(self.view.load().tables().link(repository, digest)?.map(|link| link.size))
    }

    pub(super) fn proven(&self, origin: &Origin) -> Result<Proven, Failure> {
        let rule_version = self.origins.resolve(origin)?.rule_version;
        Ok(Proven { origin: origin.clone(), rule_version })
    }

    fn is_proven(&self, target: &Target, origin: &Origin, digest: &Digest) -> bool {
        let proven = self.proven.get(&(target.repository.clone(), *digest));
        proven.is_some_and(|proven| self.proven(origin).is_ok_and(|now| now == proven))
    }
}

fn served(blob: Blob) -> ServedBlob {
    let (source, freshness) = match &blob {
        Blob::Local(reader) if reader.sealing().is_some() => (Source::Upstream, Freshness::Miss),
        Blob::Local(_) => (Source::Local, Freshness::Hit),
        Blob::Through { .. } => (Source::Passthrough, Freshness::Passthrough),
    };
    ServedBlob { len: blob.len(), blob, source, freshness }
}
