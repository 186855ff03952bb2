//! What a person or a script reads: [`Ui`] writes it, and [`clean`] sees to it that what others
//! said is harmless there.

pub mod clean;
#[cfg(test)]
pub(crate) mod paper;
#[cfg(feature = "server")]
mod progress;
#[cfg(feature = "server")]
pub mod raw;
#[cfg(feature = "server")]
mod setting;
#[cfg(feature = "server")]
pub mod table;
#[cfg(feature = "server")]
mod terminal;
#[cfg(feature = "server")]
pub mod voice;

#[cfg(feature = "server")]
pub use terminal::Ui;
