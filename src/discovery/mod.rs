//! Who is master

pub mod events;
pub mod lag;
pub mod names;
pub mod seen;
