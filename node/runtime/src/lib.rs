//! What a node takes from its machine: time, randomness, threads, disk, tasks. One [`Host`] carries them all, so that
//! a simulated node differs from a real one in a single value.

mod blocking;
mod clock;
mod disk;
mod durable;
mod entropy;
mod host;
mod published;
mod recent;
mod single_flight;
mod stream;
mod tasks;
mod trail;

pub use blocking::Blocking;
pub use clock::Clock;
pub use disk::{Disk, Fault, File, MemoryDisk, RealDisk, Stat, Usage};
pub use durable::{read_file, write_file, write_private_file};
pub use entropy::Entropy;
pub use host::Host;
pub use published::{Published, Publisher};
pub use recent::Recent;
pub use single_flight::{Flight, Lead, SingleFlight};
pub use stream::{BoxFuture, ByteStream, StreamError};
pub use tasks::{Drain, Tasks};
pub use trail::Trail;
