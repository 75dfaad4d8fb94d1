//! Tells a service manager how far this process is: systemd with `Type=notify`, or whoever else
//! names a socket in `NOTIFY_SOCKET`. Where nobody does, nothing is told.

use sd_notify::NotifyState;
use tracing::warn;

/// Requests are taken from now on.
pub(crate) fn tell_ready(detail: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(detail)]);
}

/// The process is on its way to its end.
pub(crate) fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing requests in flight")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell the service manager");
    }
}
