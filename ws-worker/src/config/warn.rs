//! What weakens a worker, one line each, and a summary for `check`. Refuses nothing.

use super::unit::Size;
use super::{Address, AppAddress, Config, Origin, Route, Target, descriptor_limit};
use std::fmt;

/// Lists the options that weaken a worker.
pub(crate) fn of(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(Address::Tcp(address)) = config.control.as_ref().map(|control| &control.address)
        && !address.ip().is_loopback()
    {
        warnings.push(format!(
            "the control API on {address} can be reached from other machines: its token is the only guard, and not encrypted on the way"
        ));
    }
    for network in &config.trusted_proxies {
        if network.prefix_len() == 0 {
            warnings.push(format!(
                "trusted_proxies has {network}: every client can claim any address and scheme"
            ));
        }
    }
    if let Some(limit) = descriptor_limit()
        && config.bounds.max_connections > limit
    {
        warnings.push(format!(
            "max_connections = {} is more than the {limit} descriptors that the process may have",
            config.bounds.max_connections
        ));
    }
    let silent: Vec<&str> = config
        .routes
        .iter()
        .filter(|route| route.limits.heartbeat.is_none())
        .filter(|route| !matches!(route.target, Target::Page(_)))
        .map(|route| route.path.as_str())
        .collect();
    if !silent.is_empty() {
        warnings.push(format!(
            "heartbeat is off on {}: proxies cut silent sockets, and dead ones are noticed late",
            silent.join(", ")
        ));
    }
    for route in &config.routes {
        let origins = route.allowed_origins.as_deref().unwrap_or_default();
        if origins.contains(&Origin::Null) {
            warnings.push(format!(
                "route {}: allowed_origins has \"null\", which any page can send from a sandboxed frame",
                route.path
            ));
        }
        if route.limits.max_message > config.bounds.memory {
            warnings.push(format!(
                "route {}: max_message is more than the {} of memory, so such a message never gets through",
                route.path,
                Size(config.bounds.memory)
            ));
        }
    }
    warnings
}

impl Config {
    /// Returns a few lines for people: where it listens and what answers.
    #[must_use]
    pub fn summary(&self) -> impl fmt::Display {
        Summary(self)
    }
}

struct Summary<'a>(&'a Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for listener in &self.0.listeners {
            let proxy = if listener.proxy_protocol {
                " (PROXY protocol)"
            } else {
                ""
            };
            writeln!(f, "  listen   {}{proxy}", listener.address)?;
        }
        if let Some(control) = &self.0.control {
            let token = if control.token.is_some() {
                " (token)"
            } else {
                ""
            };
            writeln!(f, "  control  {}{token}", control.address)?;
        }
        for route in &self.0.routes {
            writeln!(f, "  route    {}", RouteLine(route))?;
        }
        Ok(())
    }
}

struct RouteLine<'a>(&'a Route);

impl fmt::Display for RouteLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.0;
        write!(f, "{} -> ", route.path)?;
        match &route.target {
            Target::Echo => f.write_str("echo")?,
            Target::Chat => f.write_str("chat")?,
            Target::Handler(number) => write!(f, "handler {number}")?,
            Target::Page(_) => f.write_str("page")?,
            Target::Version => f.write_str("version")?,
            Target::Hooks(hooks) => {
                write!(f, "{}", hooks.url)?;
                match &hooks.url.address {
                    AppAddress::Tcp(addresses) => {
                        let host = hooks.url.host.trim_start_matches('[');
                        let is_name = |address: &&std::net::SocketAddr| {
                            !host.starts_with(&address.ip().to_string())
                        };
                        if let Some(address) = addresses.first().filter(is_name) {
                            write!(f, " at {address}")?;
                        }
                    }
                    AppAddress::Unix(_) => {}
                }
                f.write_str(if hooks.secrets.is_empty() {
                    ""
                } else {
                    ", signed"
                })?;
            }
        }
        let numbers: Vec<_> = route
            .versions
            .newest_first()
            .map(|version| version.number().to_string())
            .collect();
        write!(f, ", versions {}", numbers.join(" "))?;
        if let Some(origins) = &route.allowed_origins {
            let origins: Vec<_> = origins.iter().map(Origin::to_string).collect();
            write!(f, ", origins {}", origins.join(" "))?;
        }
        Ok(())
    }
}
