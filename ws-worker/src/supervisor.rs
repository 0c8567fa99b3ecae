//! Threads, signals and the end: binds, starts one loop a thread, waits. Knows no client and no message.

use crate::command::RouteId;
use crate::config::{Address, Config, Listener, Route, Target};
use crate::control::Control;
use crate::counters::Gauge;
use crate::handle::Handle;
use crate::handler::Handler;
use crate::hook::{self, Pool};
use crate::inherited::Passed;
use crate::journal::{JournalError, Owed, Pen, Writer};
use crate::listener::{Acceptor, Bound, Spare, admit_everybody, adopt, bind};
use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::permits::Permits;
use crate::process::Process;
use crate::reload::{Reloader, Source};
use crate::service::Service;
use crate::source::{self, Part, Router};
use crate::status::Status;
use crate::worker::{Parts, Worker as Loop, handler, scratch};
use mio::{Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// Makes a handler for a thread.
pub type Factory = Arc<dyn Fn() -> Box<dyn Handler> + Send + Sync>;

/// Why a worker did not start, or ended badly.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    Listen {
        /// As it was written.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The system refused something else: threads, descriptors, random bytes.
    System(io::Error),
    /// The journal cannot be used.
    Journal {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: JournalError,
    },
    /// The address or path given to the builder is none.
    Invalid(String),
    /// The sockets that were passed are not those that the configuration names: another try would end likewise.
    Inherited(String),
}

impl StartError {
    /// Returns whether trying again cannot help: what is configured must change first.
    #[must_use]
    pub const fn is_of_the_configuration(&self) -> bool {
        matches!(
            self,
            Self::Inherited(_)
                | Self::Journal {
                    error: JournalError::Foreign | JournalError::Version(_),
                    ..
                }
        )
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Journal { path, error } => {
                write!(f, "cannot use the journal {}: {error}", path.display())
            }
            Self::System(error) => write!(f, "cannot start: {error}"),
            Self::Invalid(what) | Self::Inherited(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// A worker for a program that embeds it.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Begins to describe one. Defaults are those of the configuration file, with one thread.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            config: Config {
                threads: 1,
                ..Config::default()
            },
            factories: Vec::new(),
            fault: None,
        }
    }
}

/// Describes a worker.
pub struct Builder {
    config: Config,
    factories: Vec<Factory>,
    fault: Option<String>,
}

impl Builder {
    /// Listens on an address such as `127.0.0.1:9000`, `[::1]:0` or `unix:/run/ws.sock`.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        let parsed = match address.strip_prefix("unix:") {
            Some(path) => Some(Address::Unix(path.into())),
            None => address.parse().ok().map(Address::Tcp),
        };
        match parsed {
            Some(address) => self.config.listeners.push(Listener {
                address,
                proxy_protocol: false,
            }),
            None => {
                self.fault = Some(format!(
                    "{address:?} is no address such as 127.0.0.1:9000 or unix:/run/ws.sock"
                ))
            }
        }
        self
    }

    /// Runs so many loops, each in its thread.
    #[must_use]
    pub fn threads(mut self, threads: u8) -> Self {
        self.config.threads = threads.max(1);
        self
    }

    /// Answers on `path` and below with handlers that `factory` makes, one a thread.
    #[must_use]
    pub fn route<H: Handler + 'static>(
        self,
        path: &str,
        factory: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        self.route_with(path, factory, |_| {})
    }

    /// Likewise, and lets `change` set the route's limits, versions or origins.
    #[must_use]
    pub fn route_with<H: Handler + 'static>(
        mut self,
        path: &str,
        factory: impl Fn() -> H + Send + Sync + 'static,
        change: impl FnOnce(&mut Route),
    ) -> Self {
        let id = RouteId(self.config.routes.len() as u16);
        let mut route = Route::new(id, path, Target::Handler(self.factories.len()));
        change(&mut route);
        self.config.routes.push(Arc::new(route));
        self.factories.push(Arc::new(move || Box::new(factory())));
        self
    }

    /// Lets `change` set anything else of the configuration.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the threads and returns.
    ///
    /// # Errors
    /// The caller's fault or the system's: an address that is none, or that cannot be listened on.
    pub fn start(self) -> Result<Running, StartError> {
        match self.fault {
            Some(fault) => Err(StartError::Invalid(fault)),
            None => start(self.config, &self.factories, None, None, || {}),
        }
    }

    /// Runs until SIGTERM or SIGINT, then drains; a second signal ends it at once.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn run(self) -> Result<(), StartError> {
        match self.fault {
            Some(fault) => Err(StartError::Invalid(fault)),
            None => run_with(self.config, &self.factories, None, || {}),
        }
    }
}

/// A worker that runs. Dropping it lets it run on; [`Running::stop`] ends it.
pub struct Running {
    handle: Handle,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Returns the handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns the TCP addresses listened on, with the ports the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Drains and waits for the end.
    ///
    /// # Errors
    /// The system's: a loop ended badly.
    pub fn stop(self) -> Result<(), StartError> {
        self.handle.stop();
        self.join()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The system's: a loop ended badly.
    pub fn join(self) -> Result<(), StartError> {
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => return Err(StartError::System(io::Error::other("a loop panicked"))),
            }
        }
        let counters = &self.handle.process.counters;
        let left = [
            &counters.connections,
            &counters.handshakes,
            &counters.memory,
        ];
        debug_assert_eq!(
            left.map(Gauge::get),
            [0; 3],
            "connections, handshakes and memory of nobody"
        );
        Ok(())
    }
}

/// Runs a worker until SIGTERM or SIGINT, then drains; a second signal ends it at once. SIGHUP takes what `source` reads.
/// Calls `settled` when what stays for good is allocated, and before anybody is served.
///
/// # Errors
/// An address cannot be listened on, or the system refused something.
pub fn run(config: Config, source: Source, settled: fn()) -> Result<(), StartError> {
    run_with(config, &[], Some(source), settled)
}

fn run_with(
    config: Config,
    factories: &[Factory],
    source: Option<Source>,
    settled: fn(),
) -> Result<(), StartError> {
    // Signals that come while it starts are kept until somebody can act on them.
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    let waker = signals.handle();
    let service = Service::from_environment(config.threads.max(1)).unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: the service manager is told nothing");
        None
    });
    let running = start(config, factories, source, service, settled)?;
    let handle = running.handle();
    let watch = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut again = false;
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    Status::of(&handle.process).log(&handle.process);
                    continue;
                }
                if signal == SIGHUP {
                    // On a thread of its own: names are looked up, and SIGTERM must not wait for that. The result is logged.
                    if let Err(error) = handle.reload_then(drop) {
                        tracing::error!(%error, "nothing was reloaded");
                    }
                    continue;
                }
                tracing::info!(signal, again, "stopping");
                handle.drain(again);
                again = true;
            }
        })?;
    let result = running.join();
    waker.close();
    // It ends when its handle is closed; there is nothing it could say.
    let _ = watch.join();
    tracing::info!("stopped");
    result
}

/// Binds everything and starts the loops.
///
/// # Errors
/// An address cannot be listened on, or the system refused something.
fn start(
    config: Config,
    factories: &[Factory],
    source: Option<Source>,
    service: Option<Service>,
    settled: fn(),
) -> Result<Running, StartError> {
    raise_descriptor_limit();
    let threads = config.threads.max(1);
    let config = Arc::new(config);
    let process = Process::new(Arc::clone(&config))
        .map_err(|error| StartError::System(io::Error::other(error)))?;
    if let Some(service) = service {
        // Just made: nobody has set it.
        let _ = process.service.set(service);
    }
    let mut journal = open_journal(&process)?;
    let mut polls = Vec::with_capacity(usize::from(threads));
    let mut mailboxes = Vec::with_capacity(usize::from(threads));
    let mut inboxes = Vec::with_capacity(usize::from(threads));
    for _ in 0..threads {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), source::token(Part::Waker, 0))?;
        let (mailbox, inbox) = mailbox(Arc::clone(&process), Arc::new(waker));
        polls.push(poll);
        mailboxes.push(mailbox);
        inboxes.push((inbox, Spare::new()));
    }
    let passed = Passed::from_environment().map_err(StartError::Inherited)?;
    let (acceptors, addresses) = bind_listeners(&config, threads, &passed)?;
    let mut control = match &config.control {
        Some(control) => Some(bind_control(&control.address, &passed)?),
        None => None,
    };
    passed
        .check_that_all_are_used()
        .map_err(StartError::Inherited)?;
    if let (Some(bound), Some(control)) = (&control, &config.control) {
        tracing::info!(
            "the control API listens on {}",
            bound
                .local_address()
                .unwrap_or_else(|| control.address.clone())
        );
    }
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let permits = Permits::of(&config);
    let reloader = Reloader::new(source, &process, Arc::clone(&permits));
    // Just made: nobody has set it.
    let _ = process.reloader.set(reloader);
    let scratches: Vec<_> = (0..threads).map(|_| scratch()).collect();
    settled();
    let mut handles = Vec::with_capacity(usize::from(threads));
    for (thread, (((poll, (inbox, spare)), acceptors), scratch)) in polls
        .into_iter()
        .zip(inboxes)
        .zip(acceptors)
        .zip(scratches)
        .enumerate()
    {
        let thread = thread as u8;
        let seed = Seed {
            thread,
            poll,
            inbox,
            spare,
            scratch,
            acceptors,
            control: control.take(),
            process: Arc::clone(&process),
            mailboxes: Arc::clone(&mailboxes),
            permits: Arc::clone(&permits),
            journal: journal.as_mut().map(|(writer, owed)| {
                // The first thread tells what an earlier life left.
                (writer.pen(thread), std::mem::take(owed))
            }),
            factories: factories.to_vec(),
        };
        let name = format!("loop-{thread}");
        handles.push(
            std::thread::Builder::new()
                .name(name)
                .spawn(move || turn_until_the_end(seed))?,
        );
    }
    if let Some((writer, _)) = journal {
        let (process, mailboxes) = (Arc::clone(&process), Arc::clone(&mailboxes));
        handles.push(
            std::thread::Builder::new()
                .name("journal".to_owned())
                .spawn(move || {
                    writer.run(&process, &mailboxes);
                    Ok(())
                })?,
        );
    }
    Ok(Running {
        handle: Handle::new(mailboxes, process),
        addresses,
        threads: handles,
    })
}

/// Opens the journal before any socket is taken.
fn open_journal(process: &Process) -> Result<Option<(Writer, Vec<Owed>)>, StartError> {
    let Some(path) = &process.config.journal else {
        return Ok(None);
    };
    let fault = |error| StartError::Journal {
        path: path.clone(),
        error,
    };
    let (writer, owed) = Writer::open(path, &hook::lost()).map_err(fault)?;
    process.starting.store(!owed.is_empty(), Ordering::Relaxed);
    Ok(Some((writer, owed)))
}

/// Runs a loop. One that ends badly takes the others along: half a worker would answer half of the clients.
fn turn_until_the_end(seed: Seed) -> io::Result<()> {
    let handle = Handle::new(Arc::clone(&seed.mailboxes), Arc::clone(&seed.process));
    let turns = std::panic::AssertUnwindSafe(|| seed.grow()?.run());
    let result = std::panic::catch_unwind(turns).unwrap_or_else(|_| {
        Err(io::Error::other(
            "a loop panicked outside of a client's turn",
        ))
    });
    if let Err(error) = &result {
        tracing::error!(%error, "a loop ended");
        handle.drain(true);
    }
    result
}

/// Takes as many descriptors as the operator allows: the soft limit is there for programs that use `select`.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::debug!(%error, "the descriptor limit stays as it was");
    }
}

/// Binds where clients come in. Returns what each thread accepts from, and the TCP addresses in the order of the configuration.
fn bind_listeners(
    config: &Config,
    threads: u8,
    passed: &Passed,
) -> Result<(Vec<Vec<Acceptor>>, Vec<SocketAddr>), StartError> {
    let mut addresses = Vec::new();
    let mut acceptors: Vec<Vec<Acceptor>> = (0..threads).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let all = bind_all(&listener.address, threads, passed)?;
        admit_everybody(&listener.address).map_err(|error| StartError::Listen {
            address: listener.address.to_string(),
            error,
        })?;
        for bound in all {
            if let Some(first) = bound.first() {
                let local = first.local_address();
                if let Some(Address::Tcp(address)) = local {
                    addresses.push(address);
                }
                crate::log::listening(config, local.as_ref().unwrap_or(&listener.address));
            }
            for (bound, acceptors) in bound.into_iter().zip(&mut acceptors) {
                acceptors.push(Acceptor::new(
                    bound.into_listening(),
                    listener.proxy_protocol,
                ));
            }
        }
    }
    Ok((acceptors, addresses))
}

/// Binds an address, for each thread; a name may stand for more than one socket.
fn bind_all(
    address: &Address,
    threads: u8,
    passed: &Passed,
) -> Result<Vec<Vec<Bound>>, StartError> {
    let fail = |error| StartError::Listen {
        address: address.to_string(),
        error,
    };
    let inherited = match address {
        Address::Tcp(_) | Address::Unix(_) => {
            return Ok(vec![bind(address, threads).map_err(fail)?]);
        }
        Address::Systemd(name) => passed.named(name),
        Address::Descriptor(number) => passed.numbered(*number).map(|socket| vec![socket]),
    };
    let inherited = inherited.map_err(|why| StartError::Inherited(format!("{address}: {why}")))?;
    let sockets = inherited.into_iter();
    sockets
        .map(|socket| adopt(socket, threads).map_err(fail))
        .collect()
}

fn bind_control(address: &Address, passed: &Passed) -> Result<Bound, StartError> {
    let fail = |error| StartError::Listen {
        address: address.to_string(),
        error,
    };
    let mut all = bind_all(address, 1, passed)?;
    if all.len() > 1 {
        let why = format!(
            "{address}: the control API has one listener, and the name stands for {}",
            all.len()
        );
        return Err(StartError::Inherited(why));
    }
    let bound = all
        .pop()
        .and_then(|mut threads| threads.pop())
        .ok_or_else(|| fail(io::ErrorKind::AddrNotAvailable.into()))?;
    if let Address::Unix(path) = address {
        // The mode is the permission.
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
    }
    Ok(bound)
}

/// What crosses into a new thread; what may not cross is made there.
struct Seed {
    thread: u8,
    poll: Poll,
    inbox: Inbox,
    spare: Spare,
    scratch: Box<[u8]>,
    acceptors: Vec<Acceptor>,
    control: Option<Bound>,
    process: Arc<Process>,
    mailboxes: Arc<[Mailbox]>,
    permits: Arc<[Arc<Permits>]>,
    journal: Option<(Pen, Vec<Owed>)>,
    factories: Vec<Factory>,
}

impl Seed {
    fn grow(self) -> io::Result<Loop> {
        let hooks = Rc::new(RefCell::new(Pool::new(
            Arc::clone(&self.process),
            self.permits,
            self.thread,
        )));
        if let Some((pen, owed)) = self.journal {
            hooks.borrow_mut().keep(pen, owed);
        }
        let own = |number: usize| self.factories.get(number).map(|factory| factory());
        let routes = self.process.config.routes.iter();
        let handlers = routes.map(|route| handler(route, &hooks, own)).collect();
        let control = match self.control {
            Some(bound) => Some(Control::new(
                Arc::clone(&self.process),
                bound.into_listening(),
                self.poll.registry(),
            )?),
            None => None,
        };
        let router = Router::new(self.thread, self.mailboxes, Arc::clone(&self.process));
        Loop::new(Parts {
            poll: self.poll,
            process: self.process,
            handlers,
            hooks,
            control,
            acceptors: self.acceptors,
            router,
            inbox: self.inbox,
            spare: self.spare,
            scratch: self.scratch,
        })
    }
}
