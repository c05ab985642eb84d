//! The doors over a whole node: a group of one, a store on disk, a scripted upstream.

mod access;
mod aws;
mod oci;
mod operations;
mod pull;
mod upstream;
mod world;
