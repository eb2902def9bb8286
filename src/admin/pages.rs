//! The admin address.

use std::sync::Arc;

use super::{Answer, Asked, text};
use crate::control::Control;

pub(super) fn answer(_control: &Arc<Control>, _asked: &Asked) -> Answer {
    text::not_found("nothing yet")
}
