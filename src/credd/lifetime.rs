//! How long the daemon lives: until it is told to stop, or, on a socket that somebody else
//! holds, until ending loses nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::keeper::Keeper;
use super::server::Server;

/// When the daemon ends by itself.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// How long all must have been quiet. With the rest this stays within a minute.
    pub quiet: Duration,
    /// How often that is looked at.
    pub tick: Duration,
    /// A connection on which nothing was asked for this long does not keep the daemon alive.
    pub idle: Duration,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(30),
            tick: Duration::from_secs(5),
            idle: Duration::from_secs(5),
        }
    }
}

/// Why the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// There was nothing left to do.
    Idle,
}

/// Serves until `stop` resolves, or until all is quiet where `ends_by_itself`. Tells systemd
/// (`sd_notify(3)`) when it serves, that it lives, and when it stops.
pub async fn serve(
    server: &Arc<Server>,
    keeper: &Arc<Keeper>,
    listener: UnixListener,
    ends_by_itself: bool,
    lifetime: Lifetime,
    stop: impl Future<Output = ()>,
) -> End {
    let end = {
        let mut accepting = std::pin::pin!(server.accept(&listener));
        let mut stop = std::pin::pin!(stop);
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
        let mut tick = interval(watchdog.map_or(lifetime.tick, |most| most.min(lifetime.tick)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_since = Some(keeper.steady());
        let mut alive_told = Instant::now();
        tell(NotifyState::Ready);
        loop {
            tokio::select! {
                never = accepting.as_mut() => match never {},
                () = stop.as_mut() => break End::Stopped,
                _ = tick.tick() => {}
            }
            if watchdog.is_some_and(|every| alive_told.elapsed() >= every / 2) {
                tell(NotifyState::Watchdog);
                alive_told = Instant::now();
            }
            server.sweep();
            quiet_since = quiet(keeper, server, quiet_since);
            let long = quiet_since
                .is_some_and(|since| keeper.steady().saturating_sub(since) >= lifetime.quiet);
            if ends_by_itself && long && !server.close_idle(lifetime.idle) {
                break End::Idle;
            }
        }
    };
    // From here on connections wait in the socket for the next of us.
    drop(listener);
    tell(NotifyState::Stopping);
    server.drain().await;
    end
}

/// Since when nothing has been asked and nothing would be lost; none while something would.
fn quiet(keeper: &Keeper, server: &Server, since: Option<Duration>) -> Option<Duration> {
    if keeper.has_something_to_lose() {
        return None;
    }
    let since = since.unwrap_or_else(|| keeper.steady());
    Some(server.last_request().map_or(since, |last| last.max(since)))
}

/// Without a supervisor that listens there is nobody to tell.
pub(super) fn tell(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}
