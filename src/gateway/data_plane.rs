//! The data plane: the sockets in service, and the workers that accept connections from them.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::bind::BoundSockets;
use super::workers::WorkerHandle;
use crate::compile::CarryOver;
use crate::drain::{self, DrainTrigger};
use crate::listen::{Acceptor, BindView};
use crate::state::GatewayState;
use crate::sync::lock;

/// The sockets in service and the workers. A reload replaces the config and the sockets.
#[derive(Debug)]
pub(super) struct DataPlane {
    pub(super) state: Arc<GatewayState>,
    pub(super) carry_over: CarryOver,
    pub(super) control_runtime: Handle,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) drain_timeout: Duration,
    /// The binds in service. The lock is held during a reload, so that reloads are serialized.
    pub(super) running_binds: Mutex<Vec<RunningBind>>,
}

/// A bind in service.
#[derive(Debug)]
pub(super) struct RunningBind {
    /// The configured address.
    pub(super) address: SocketAddr,
    local_address: SocketAddr,
    pub(super) view: Arc<BindView>,
    pub(super) drain_trigger: DrainTrigger,
}

impl DataPlane {
    /// Starts to serve the first sockets.
    pub(super) fn start(
        state: Arc<GatewayState>,
        carry_over: CarryOver,
        control_runtime: Handle,
        workers: Vec<WorkerHandle>,
        sockets: Vec<BoundSockets>,
        drain_timeout: Duration,
    ) -> Arc<Self> {
        let running_binds = Mutex::default();
        let data_plane = Self { state, carry_over, control_runtime, workers, drain_timeout, running_binds };
        lock(&data_plane.running_binds).extend(sockets.into_iter().map(|sockets| data_plane.serve(sockets)));
        Arc::new(data_plane)
    }

    /// Distributes the sockets of a bind to the workers.
    pub(super) fn serve(&self, (address, sockets): BoundSockets) -> RunningBind {
        let drain_trigger = drain::new();
        let connections = Arc::new(AtomicUsize::new(0));
        let view = Arc::new(BindView::new(Arc::clone(self.state.snapshot_store()), address));
        let local_address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        for (handle, socket) in self.workers.iter().zip(sockets) {
            let acceptor = Acceptor {
                worker: Arc::clone(&handle.worker),
                view: Arc::clone(&view),
                connections: Arc::clone(&connections),
                drain: drain_trigger.watcher(),
            };
            handle.serve(Arc::new(acceptor), socket);
        }
        RunningBind { address, local_address, view, drain_trigger }
    }

    pub(super) fn state(&self) -> &Arc<GatewayState> {
        &self.state
    }

    /// Returns the addresses of the binds, in the order of the config.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let running = lock(&self.running_binds);
        let local = |address| running.iter().find(|bind| bind.address == address).map(|bind| bind.local_address);
        self.state.snapshot().binds.iter().filter_map(|bind| local(bind.address)).collect()
    }

    /// Drains all binds at the same time, for `timeout` at most. Returns whether all of them finished.
    pub(super) fn drain(&self, timeout: Duration) -> bool {
        let binds = std::mem::take(&mut *lock(&self.running_binds));
        for bind in &binds {
            bind.drain_trigger.start();
        }
        let (sender, results) = std::sync::mpsc::channel();
        for bind in binds {
            let (drain, sender) = (bind.drain_trigger.drain(timeout), sender.clone());
            self.control_runtime.spawn(async move {
                let _ = sender.send(drain.await);
            });
        }
        drop(sender);
        results.iter().fold(true, |all, finished| all & finished)
    }
}
