//! Making room for a fill: partials without a writer first, then cached blobs, in the order that `uses` says.
//!
//! Invariant: what nobody could fetch again stays ([`Evictable`]), and so does what is read or written. Nothing goes
//! unless enough can go; a crash in between leaves whole blobs, or an outboard without a blob, which the next start
//! removes. No folder is synced: a blob whose removal a loss of power undoes is one that is held.

use std::{collections::HashSet, sync::MutexGuard, time::Duration};

use flotilla_oci::Digest;
use flotilla_runtime::Usage;
use tokio::time::Instant;

use super::{
    StorageError,
    layout::{self, io_error},
    space::Space,
    store::Inner,
    uses::{Class, Need, Victim},
};

/// Blobs that one fill removes, or asks about, at most: what is beyond is the next one's work, and this one's passes by.
const VICTIMS_MOST: usize = 4_096;
/// Blobs that are asked about at once.
const ASKED_AT_ONCE: usize = 256;
/// The file system may give back less than a blob's length, and readers may come: so often it is looked again.
const ROUNDS: usize = 2;
/// After which blobs that could not be fetched again are asked about again.
const KEPT_FOR: Duration = Duration::from_secs(600);
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Says which blobs could be had again from where they came. Asked in the blocking pool.
pub trait Evictable: Send + Sync + 'static {
    /// One answer per digest, in their order; what is not answered for stays.
    fn evictable(&self, digests: &[Digest]) -> Vec<bool>;
}

/// Nothing here is the only copy.
pub struct Everything;

impl Evictable for Everything {
    fn evictable(&self, digests: &[Digest]) -> Vec<bool> {
        vec![true; digests.len()]
    }
}

/// What making room came to.
pub(super) struct Room<'a> {
    /// Of the file system, now.
    pub(super) usage: Usage,
    /// It would have fitted in place of what is protected.
    pub(super) refused: bool,
    /// Held until the room is promised, so that nobody else who makes room takes it.
    pub(super) _making: Option<MutexGuard<'a, ()>>,
}

/// What was evicted since it was last told.
#[derive(Default)]
pub(super) struct Evicted {
    told: Option<Instant>,
    blobs: u64,
    bytes: u64,
}

struct Search {
    need: Need,
    comes_back: bool,
    held_bytes: u64,
}

impl Inner {
    /// Removes what may go until a partial of `len` bytes fits beside the rest; nothing when it would not fit even so.
    pub(super) fn make_room(&self, digest: &Digest, len: u64, comes_back: bool) -> Result<Room<'_>, StorageError> {
        let fits = |space: &Space, usage| {
            let held = space.idle.get(digest).copied().unwrap_or(0);
            space.fits(&self.config, usage, len, held)
        };
        let mut usage = self.measure()?;
        if len > self.config.max_bytes.0 || fits(&self.space(), usage) {
            return Ok(Room { usage, refused: false, _making: None });
        }
        let making = Some(self.making_room());
        self.shrink();
        for round in 0..ROUNDS {
            let (need, held_bytes) = {
                let space = self.space();
                (space.lacks_without_idle(&self.config, usage, digest, len), space.sealed_bytes)
            };
            let search = Search { need, comes_back, held_bytes };
            let victims = self.search(&search);
            let Some(victims) = victims else {
                let refused = !comes_back && self.would_fit(&Search { comes_back: true, ..search });
                return Ok(Room { usage, refused, _making: making });
            };
            if round == 0 {
                usage = self.remove_idle(digest, usage, &fits)?;
            }
            for victim in victims {
                if fits(&self.space(), usage) {
                    break;
                }
                if self.evict(&victim) {
                    usage = self.measure()?;
                }
            }
            if fits(&self.space(), usage) {
                break;
            }
        }
        Ok(Room { usage, refused: false, _making: making })
    }

    /// Back to the budget, which a lower `max_bytes` or a removal that a loss of power undid exceeds: whoever asks now,
    /// what was used twice goes too.
    fn shrink(&self) {
        let (over, held_bytes) = {
            let space = self.space();
            (space.used_bytes().saturating_sub(self.config.max_bytes.0), space.sealed_bytes)
        };
        let need = Need { bytes: over, blobs: 0 };
        for victim in self.search(&Search { need, comes_back: true, held_bytes }).unwrap_or_default() {
            if self.space().used_bytes() <= self.config.max_bytes.0 {
                break;
            }
            self.evict(&victim);
        }
    }

    fn measure(&self) -> Result<Usage, StorageError> {
        let dir = self.layout.dir();
        self.host.disk.usage(dir).map_err(io_error("measure", dir))
    }

    /// Enough that may go; `None` when there is not enough. Those that reach the bound of one fill go in any case.
    fn search(&self, search: &Search) -> Option<Vec<Victim>> {
        if search.need.is_none() {
            return Some(Vec::new());
        }
        let pinned = self.table().busy();
        let mut accepted = HashSet::new();
        let mut asked = 0;
        loop {
            let (victims, enough) = self.uses().victims(
                search.need,
                search.comes_back,
                search.held_bytes,
                &pinned,
                self.uses_now_s(),
                VICTIMS_MOST,
            );
            let unasked = victims.iter().map(|victim| victim.digest).filter(|digest| !accepted.contains(digest));
            let unasked: Vec<Digest> = unasked.take(ASKED_AT_ONCE).collect();
            if unasked.is_empty() || asked >= VICTIMS_MOST {
                let may_go = |victim: &Victim| accepted.contains(&victim.digest);
                let victims: Vec<Victim> = victims.into_iter().filter(may_go).collect();
                let at_bound = asked >= VICTIMS_MOST || victims.len() >= VICTIMS_MOST;
                if !enough && !at_bound && self.look_at_kept_again() {
                    continue;
                }
                return (enough || at_bound).then_some(victims);
            }
            asked += unasked.len();
            let answers = self.evictable.evictable(&unasked);
            let mut uses = self.uses();
            for (at, digest) in unasked.iter().enumerate() {
                match answers.get(at) {
                    Some(true) => drop(accepted.insert(*digest)),
                    _ => uses.keep(digest),
                }
            }
        }
    }

    fn would_fit(&self, search: &Search) -> bool {
        let pinned = self.table().busy();
        let now_s = self.uses_now_s();
        let mut uses = self.uses();
        uses.victims(search.need, search.comes_back, search.held_bytes, &pinned, now_s, VICTIMS_MOST).1
    }

    /// Whether it was time to.
    fn look_at_kept_again(&self) -> bool {
        let mut looked = self.looked_at_kept();
        let due = looked.elapsed() >= KEPT_FOR;
        if due {
            *looked = Instant::now();
            self.uses().look_at_kept_again();
        }
        due
    }

    /// Deletes partials without a writer one by one, until it fits.
    fn remove_idle(
        &self,
        digest: &Digest,
        mut usage: Usage,
        fits: &impl Fn(&Space, Usage) -> bool,
    ) -> Result<Usage, StorageError> {
        let others: Vec<Digest> = self.space().idle.keys().filter(|other| *other != digest).copied().collect();
        for other in others {
            if fits(&self.space(), usage) {
                break;
            }
            let _stripe = self.stripe(&other);
            let Some(held) = self.space().idle.remove(&other) else { continue };
            let paths = self.layout.partial(&other);
            let removed = layout::remove(&*self.host.disk, &paths.data)
                .and_then(|_| layout::remove(&*self.host.disk, &paths.pieces));
            if let Err(error) = removed {
                self.space().idle.insert(other, held);
                return Err(error);
            }
            usage = self.measure()?;
        }
        Ok(usage)
    }

    /// Whether its room is free now.
    fn evict(&self, victim: &Victim) -> bool {
        let digest = &victim.digest;
        let _stripe = self.stripe(digest);
        // Used, read, removed or set aside since it was chosen.
        if self.uses().class(digest) != Some(victim.class) {
            return false;
        }
        {
            let mut table = self.table();
            if table.get(digest).is_some_and(|blob| blob.is_pinned() || !blob.is_sealed()) {
                return false;
            }
            table.remove(digest);
        }
        match self.unlink(digest) {
            Ok(freed) => {
                self.uses().evicted(digest);
                if let Some(bytes) = freed {
                    self.tell_evicted(victim.class, bytes);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%digest, %error, "blob could not be evicted");
                self.uses().keep(digest);
                false
            }
        }
    }

    fn tell_evicted(&self, class: Class, bytes: u64) {
        self.metrics.evicted_blobs.inc();
        self.metrics.evicted_bytes.inc_by(bytes);
        if class == Class::Protected {
            self.metrics.set_protected(self.uses().protected_bytes());
        }
        let mut evicted = self.evicted();
        evicted.blobs += 1;
        evicted.bytes = evicted.bytes.saturating_add(bytes);
        if evicted.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tracing::info!(blobs = evicted.blobs, bytes = evicted.bytes, "cached blobs were evicted to make room");
            *evicted = Evicted { told: Some(Instant::now()), ..Evicted::default() };
        }
    }
}
