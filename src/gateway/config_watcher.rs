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

use super::reload::DataPlane;
use super::reload_error::ReloadError;
use crate::config::{self, Config, LoadedConfig, Source};

/// After the last event, how long the writer may still be at it.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// In a folder where something changes all the time, how long to wait for it to settle.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
/// How often the contents are looked at without an event.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// Bytes of a file that are compared; no key or certificate comes near it.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

/// The thread that watches.
#[derive(Debug)]
pub(crate) struct ConfigWatcher {
    commands: mpsc::Sender<WatcherCommand>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatcherCommand {
    /// Something happened in a watched folder.
    Check,
    /// Reload, changed or not.
    Reload,
    Stop,
}

impl ConfigWatcher {
    /// Watches the config's file, if it is in one, and what it names, and reloads `service`.
    pub(crate) fn start(service: Arc<DataPlane>, file: Option<&Path>) -> std::io::Result<Self> {
        let (orders, incoming) = mpsc::channel();
        let mut watched = WatcherLoop::new(service, file.map(Path::to_owned), orders.clone());
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || watched.run(&incoming))?;
        Ok(Self { commands: orders, thread })
    }

    /// Reloads, changed or not.
    pub(crate) fn reload(&self) {
        let _ = self.commands.send(WatcherCommand::Reload);
    }

    pub(crate) fn stop(self) {
        let _ = self.commands.send(WatcherCommand::Stop);
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct WatcherLoop {
    data_plane: Arc<DataPlane>,
    /// The config's own; none when it was given as text.
    config_file: Option<PathBuf>,
    /// The files that the config in force names, and those that the last attempt named.
    referenced_files: BTreeSet<PathBuf>,
    /// The contents at the last attempt.
    last_digest: u64,
    watched_dirs: BTreeSet<PathBuf>,
    notifier: Option<RecommendedWatcher>,
}

impl WatcherLoop {
    fn new(service: Arc<DataPlane>, file: Option<PathBuf>, orders: mpsc::Sender<WatcherCommand>) -> Self {
        let events = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // reading is an event too, and this thread reads
            let quiet = EventKind::Access(AccessKind::Close(AccessMode::Write));
            if event.is_ok_and(|event| !event.kind.is_access() || event.kind == quiet) {
                let _ = orders.send(WatcherCommand::Check);
            }
        });
        let events = events
            .map_err(|error| tracing::warn!(%error, "no file events from the system; files are compared every 3 s"))
            .ok();
        let named = referenced_paths(&service.state().active_config().loaded.config);
        let mut watched = Self {
            data_plane: service,
            config_file: file,
            referenced_files: named,
            last_digest: 0,
            watched_dirs: BTreeSet::new(),
            notifier: events,
        };
        watched.update_watches();
        watched.last_digest = watched.content_digest();
        watched
    }

    fn run(&mut self, orders: &mpsc::Receiver<WatcherCommand>) {
        // between start and now something may have changed already
        if self.file_differs_from_active() {
            self.reload();
        }
        loop {
            let order = match orders.recv_timeout(POLL_INTERVAL) {
                Ok(WatcherCommand::Check) => debounce(orders),
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => WatcherCommand::Check,
                Err(RecvTimeoutError::Disconnected) => WatcherCommand::Stop,
            };
            match order {
                WatcherCommand::Stop => return,
                WatcherCommand::Reload => self.reload(),
                WatcherCommand::Check if self.content_digest() != self.last_digest => self.reload(),
                WatcherCommand::Check => {}
            }
        }
    }

    /// Whether the file holds another text than the one that runs.
    fn file_differs_from_active(&self) -> bool {
        let running = self.data_plane.state().active_config();
        let now = self.config_file.as_ref().and_then(|file| std::fs::read(file).ok());
        now.is_some_and(|now| now != running.loaded.source.text().as_bytes())
    }

    fn reload(&mut self) {
        // taken before the files are read for the reload: what changes meanwhile is seen as a change the next time
        self.last_digest = self.content_digest();
        let loaded = self.load();
        let attempted = loaded.as_ref().map(|loaded| referenced_paths(&loaded.config)).unwrap_or_default();
        let _ = self.data_plane.reload(loaded);
        let running = referenced_paths(&self.data_plane.state().active_config().loaded.config);
        let named: BTreeSet<PathBuf> = running.into_iter().chain(attempted).collect();
        if named != self.referenced_files {
            self.referenced_files = named;
            self.last_digest = self.content_digest();
        }
        self.update_watches();
    }

    fn load(&self) -> Result<LoadedConfig, ReloadError> {
        let source = match &self.config_file {
            Some(file) => Source::read(file).map_err(|error| ReloadError::new(&[error], None))?,
            None => self.data_plane.state().active_config().loaded.source.clone(),
        };
        config::load(source.clone(), &|name| std::env::var(name).ok())
            .map_err(|errors| ReloadError::new(&errors, Some(&source)))
    }

    /// A mark of all contents, the same as long as they are the same. A file that can't be read is a content too.
    fn content_digest(&self) -> u64 {
        let mut mark = DefaultHasher::new();
        for path in self.config_file.iter().chain(&self.referenced_files) {
            path.hash(&mut mark);
            match read_bounded(path) {
                Ok(bytes) => bytes.hash(&mut mark),
                Err(error) => error.kind().hash(&mut mark),
            }
        }
        mark.finish()
    }

    /// Has the system tell about the folders of all files, and of what their links lead to.
    fn update_watches(&mut self) {
        let Some(events) = &mut self.notifier else { return };
        let mut wanted_dirs = BTreeSet::new();
        for path in self.config_file.iter().chain(&self.referenced_files) {
            wanted_dirs.extend(parent_dir(path));
            wanted_dirs.extend(std::fs::canonicalize(path).ok().as_deref().and_then(parent_dir));
        }
        for gone in self.watched_dirs.difference(&wanted_dirs) {
            let _ = events.unwatch(gone);
        }
        self.watched_dirs.retain(|folder| wanted_dirs.contains(folder));
        for new in wanted_dirs {
            if self.watched_dirs.contains(&new) {
                continue;
            }
            match events.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched_dirs.insert(new);
                }
                Err(error) => tracing::debug!(folder = %new.display(), %error, "no events for a folder"),
            }
        }
    }
}

/// Waits until nothing has happened for a moment.
fn debounce(orders: &mpsc::Receiver<WatcherCommand>) -> WatcherCommand {
    let end = Instant::now() + MAX_DEBOUNCE;
    while Instant::now() < end {
        match orders.recv_timeout(DEBOUNCE) {
            Ok(WatcherCommand::Check) => {}
            Ok(order) => return order,
            Err(_) => break,
        }
    }
    WatcherCommand::Check
}

fn referenced_paths(config: &Config) -> BTreeSet<PathBuf> {
    config::referenced_files(config).into_iter().map(|file| file.value.clone()).collect()
}

fn parent_dir(path: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(path).ok()?.parent()?.to_owned();
    Some(folder).filter(|folder| folder.as_os_str() != OsStr::new(""))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // a pipe or a device would never end
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, MAX_COMPARED_BYTES), &mut bytes)?;
    Ok(bytes)
}
