//! What is refused when the config is loaded.

use super::*;
