//! Notices that the config file, or a file that it names, has changed.
//!
//! What is watched is the folder that holds a file, since editors and Kubernetes replace files and links instead of
//! writing into them. Behind the system's events stands a look at the contents every few seconds, for mounts that send
//! none. Either way the contents decide: when they are what they were at the last attempt, nothing happens.
//!
//! A config that came as text, by an argument or through a pipe, is in no file: it stays what it is, and what it names
//! is watched and read again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::refused::Refused;
use super::reload::Service;
use crate::config::{self, Config, Loaded, Source};

/// After the last event, how long the writer may still be at it.
const SETTLE: Duration = Duration::from_millis(250);
/// In a folder where something changes all the time, how long to wait for it to settle.
const LONGEST_SETTLE: Duration = Duration::from_secs(2);
/// How often the contents are looked at without an event.
const LOOK: Duration = Duration::from_secs(3);
/// Bytes of a file that are compared; no key or certificate comes near it.
const MOST_COMPARED: u64 = 16 << 20;

/// The thread that watches.
#[derive(Debug)]
pub(super) struct Watch {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Something happened in a watched folder.
    Look,
    /// Reload, changed or not.
    Reload,
    End,
}

impl Watch {
    /// Watches the config's file, if it is in one, and what it names, and reloads `service`.
    pub(super) fn start(service: Arc<Service>, file: Option<&Path>) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::channel();
        let mut watched = Watched::new(service, file.map(Path::to_owned), orders.clone());
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || watched.run(&incoming))?;
        Ok(Self { orders, thread })
    }

    /// Reloads, changed or not.
    pub(super) fn reload(&self) {
        let _ = self.orders.send(Order::Reload);
    }

    pub(super) fn stop(self) {
        let _ = self.orders.send(Order::End);
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct Watched {
    service: Arc<Service>,
    /// The config's own; none when it was given as text.
    file: Option<PathBuf>,
    /// The files that the config in force names, and those that the last attempt named.
    named: BTreeSet<PathBuf>,
    /// The contents at the last attempt.
    seen: u64,
    folders: BTreeSet<PathBuf>,
    events: Option<RecommendedWatcher>,
}

impl Watched {
    fn new(service: Arc<Service>, file: Option<PathBuf>, orders: mpsc::Sender<Order>) -> Self {
        let events = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // reading is an event too, and this thread reads
            let quiet = EventKind::Access(AccessKind::Close(AccessMode::Write));
            if event.is_ok_and(|event| !event.kind.is_access() || event.kind == quiet) {
                let _ = orders.send(Order::Look);
            }
        });
        let events = events
            .map_err(|error| tracing::warn!(%error, "no file events from the system; files are compared every 3 s"))
            .ok();
        let named = names(&service.control().in_force().loaded.config);
        let mut watched = Self { service, file, named, seen: 0, folders: BTreeSet::new(), events };
        watched.watch_folders();
        watched.seen = watched.contents();
        watched
    }

    fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        // between start and now something may have changed already
        if self.differs_from_what_runs() {
            self.reload();
        }
        loop {
            let order = match orders.recv_timeout(LOOK) {
                Ok(Order::Look) => settle(orders),
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => Order::Look,
                Err(RecvTimeoutError::Disconnected) => Order::End,
            };
            match order {
                Order::End => return,
                Order::Reload => self.reload(),
                Order::Look if self.contents() != self.seen => self.reload(),
                Order::Look => {}
            }
        }
    }

    /// Whether the file holds another text than the one that runs.
    fn differs_from_what_runs(&self) -> bool {
        let running = self.service.control().in_force();
        let now = self.file.as_ref().and_then(|file| std::fs::read(file).ok());
        now.is_some_and(|now| now != running.loaded.source.text().as_bytes())
    }

    fn reload(&mut self) {
        // taken before the files are read for the reload: what changes meanwhile is seen as a change the next time
        self.seen = self.contents();
        let loaded = self.load();
        let attempted = loaded.as_ref().map(|loaded| names(&loaded.config)).unwrap_or_default();
        let _ = self.service.reload(loaded);
        let running = names(&self.service.control().in_force().loaded.config);
        let named: BTreeSet<PathBuf> = running.into_iter().chain(attempted).collect();
        if named != self.named {
            self.named = named;
            self.seen = self.contents();
        }
        self.watch_folders();
    }

    fn load(&self) -> Result<Loaded, Refused> {
        let source = match &self.file {
            Some(file) => Source::read(file).map_err(|error| Refused::new(&[error], None))?,
            None => self.service.control().in_force().loaded.source.clone(),
        };
        config::load(source.clone(), &|name| std::env::var(name).ok())
            .map_err(|errors| Refused::new(&errors, Some(&source)))
    }

    /// A mark of all contents, the same as long as they are the same. A file that can't be read is a content too.
    fn contents(&self) -> u64 {
        let mut mark = DefaultHasher::new();
        for path in self.file.iter().chain(&self.named) {
            path.hash(&mut mark);
            match read(path) {
                Ok(bytes) => bytes.hash(&mut mark),
                Err(error) => error.kind().hash(&mut mark),
            }
        }
        mark.finish()
    }

    /// Has the system tell about the folders of all files, and of what their links lead to.
    fn watch_folders(&mut self) {
        let Some(events) = &mut self.events else { return };
        let mut wanted = BTreeSet::new();
        for path in self.file.iter().chain(&self.named) {
            wanted.extend(folder(path));
            wanted.extend(std::fs::canonicalize(path).ok().as_deref().and_then(folder));
        }
        for gone in self.folders.difference(&wanted) {
            let _ = events.unwatch(gone);
        }
        self.folders.retain(|folder| wanted.contains(folder));
        for new in wanted {
            if self.folders.contains(&new) {
                continue;
            }
            match events.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(new);
                }
                Err(error) => tracing::debug!(folder = %new.display(), %error, "no events for a folder"),
            }
        }
    }
}

/// Waits until nothing has happened for a moment.
fn settle(orders: &mpsc::Receiver<Order>) -> Order {
    let end = Instant::now() + LONGEST_SETTLE;
    while Instant::now() < end {
        match orders.recv_timeout(SETTLE) {
            Ok(Order::Look) => {}
            Ok(order) => return order,
            Err(_) => break,
        }
    }
    Order::Look
}

fn names(config: &Config) -> BTreeSet<PathBuf> {
    config::named_files(config).into_iter().map(|file| file.value.clone()).collect()
}

fn folder(path: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(path).ok()?.parent()?.to_owned();
    Some(folder).filter(|folder| folder.as_os_str() != OsStr::new(""))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // a pipe or a device would never end
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, MOST_COMPARED), &mut bytes)?;
    Ok(bytes)
}
