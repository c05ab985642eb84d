mod crash;
mod damage;
mod kill;
mod life;
mod proposals;
mod snapshots;
mod suite;
mod world;
