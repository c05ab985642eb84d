//! The properties that the module's documentation claims, over its face.

mod formats;
mod images;
mod once;
mod overlay;
mod random;
mod recount;
mod refusals;
mod secrets;
mod support;
mod time;
