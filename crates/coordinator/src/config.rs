//! `sordino.toml`: one typed file, unknown keys refused, safe defaults, an overlay from the environment.
//!
//! `SORDINO__SECTION__KEY=value` overrides `key` of `[section]`; a value that is not TOML by itself is taken as a
//! string. Secrets are never values here, only names of files. Relative paths start at the folder of the file.

use serde::Deserialize;
use sordino_identity::FederationId;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

mod limits;

pub use limits::{Limits, Seconds};

/// What the service is told at start.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Who we are.
    pub federation: FederationSection,
    /// Where we listen and keep our data.
    #[serde(default)]
    pub server: ServerSection,
    /// Where the keys and certificates are.
    #[serde(default)]
    pub keys: Keys,
    /// Bounds of everything a peer can make us hold or wait for.
    #[serde(default)]
    pub limits: Limits,
    /// Set by the command line only, see [`ServerConfig::allow_insecure_dev`].
    #[serde(skip)]
    insecure_dev: bool,
}

/// `[federation]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationSection {
    /// The trust domain of every SPIFFE id.
    pub name: FederationId,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSection {
    /// Address and port of the one HTTPS listener. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses that the server certificate carries; the first one stands in invitations.
    pub names: Vec<String>,
    /// Where participants reach us, if that is not the first name and the port of `listen`.
    pub url: Option<String>,
    /// Database, models, uploads, and the privacy ledger.
    pub data: PathBuf,
    /// The counter that shows that an older copy of the privacy ledger was restored: apart from `data`, best on another
    /// disk and in another backup.
    pub ledger_counter: PathBuf,
}

/// `[keys]`: files, PEM. All are made by `init`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Certificate of the root CA: the one trust anchor. Its key is not needed here and belongs offline.
    pub root_certificate: PathBuf,
    /// Certificate of the CA that signs participants.
    pub intermediate_certificate: PathBuf,
    /// Its key.
    pub intermediate_key: PathBuf,
    /// Chain of the HTTPS server, leaf first.
    pub server_certificate: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// Ed25519 key that signs access tokens.
    pub token_key: PathBuf,
    /// Secret that join secrets are derived from, so that they need not be stored.
    pub invitation_key: PathBuf,
    /// Ed25519 key that says who belongs to the federation.
    pub registrar_key: PathBuf,
    /// Secret that authenticates the privacy ledger.
    pub ledger_key: PathBuf,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            names: vec!["localhost".into()],
            url: None,
            data: "data".into(),
            ledger_counter: "counter/privacy.counter".into(),
        }
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            root_certificate: "keys/root.pem".into(),
            intermediate_certificate: "keys/intermediate.pem".into(),
            intermediate_key: "keys/intermediate.key".into(),
            server_certificate: "keys/server.pem".into(),
            server_key: "keys/server.key".into(),
            token_key: "keys/token.key".into(),
            invitation_key: "keys/invitation.key".into(),
            registrar_key: "registrar/registrar.key".into(),
            ledger_key: "keys/ledger.key".into(),
        }
    }
}

impl Keys {
    fn each_mut(&mut self) -> [&mut PathBuf; 9] {
        let Self {
            root_certificate,
            intermediate_certificate,
            intermediate_key,
            server_certificate,
            server_key,
            token_key,
            invitation_key,
            registrar_key,
            ledger_key,
        } = self;
        [
            root_certificate,
            intermediate_certificate,
            intermediate_key,
            server_certificate,
            server_key,
            token_key,
            invitation_key,
            registrar_key,
            ledger_key,
        ]
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is missing or cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of another type.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// With line, column and key.
        reason: String,
    },
    /// A variable of the overlay names no key, or its value does not fit.
    #[error("environment variable {variable}: {reason}")]
    Environment {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value outside of its range.
    #[error("{path}: {key} is {value}, it must be {range}")]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// Unsafe settings never meet a network.
    #[error("--insecure-dev works on loopback only, and server.listen is {listen}; use 127.0.0.1")]
    InsecureOffLoopback {
        /// The address of the configuration.
        listen: SocketAddr,
    },
}

impl ServerConfig {
    /// Reads `path` and the overlay in this process's environment.
    ///
    /// # Errors
    /// [`ConfigError`], each naming the file or variable and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        // A variable that is not Unicode cannot be one of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_with(path, variables)
    }

    /// Reads `path` with an overlay of `variables`.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn load_with(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.into(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > CONFIG_BYTES_MAX {
            let reason = format!("it has {size} bytes, at most {CONFIG_BYTES_MAX} are read");
            return Err(ConfigError::Unreadable { path: path.into(), reason });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(path, &text, variables)
    }

    /// Reads `text` as if it stood in `path`.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let unreadable =
            |error: toml::de::Error| ConfigError::Unreadable { path: path.into(), reason: error.to_string() };
        let mut config = toml::from_str::<Self>(text).map_err(unreadable)?;
        let mut table = text.parse::<toml::Table>().map_err(unreadable)?;
        let overlay = variables.into_iter().filter(|(name, _)| name.starts_with(OVERLAY_PREFIX));
        for (variable, value) in overlay {
            // One at a time, so that the error can name the variable.
            overlay_one(&mut table, &variable, &value)?;
            config = table.clone().try_into().map_err(|error: toml::de::Error| ConfigError::Environment {
                variable,
                reason: error.message().to_owned(),
            })?;
        }
        config.limits.check(path)?;
        if config.server.names.is_empty() {
            let (key, value, range) = ("server.names", "empty".into(), "at least one name or address");
            return Err(ConfigError::OutOfRange { path: path.into(), key, value, range });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        // An absolute path stays what it is when joined.
        config.server.data = folder.join(&config.server.data);
        config.server.ledger_counter = folder.join(&config.server.ledger_counter);
        for file in config.keys.each_mut() {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// Allows what must never meet a network; only the command line calls this.
    ///
    /// # Errors
    /// [`ConfigError::InsecureOffLoopback`] unless the listener is on loopback.
    pub fn allow_insecure_dev(&mut self) -> Result<(), ConfigError> {
        let listen = self.server.listen;
        if !listen.ip().is_loopback() {
            return Err(ConfigError::InsecureOffLoopback { listen });
        }
        self.insecure_dev = true;
        Ok(())
    }

    /// Whether unsafe settings are allowed, on loopback.
    #[must_use]
    pub fn insecure_dev(&self) -> bool {
        self.insecure_dev
    }

    /// Where participants reach us, when we listen on `port`.
    #[must_use]
    pub fn url(&self, port: u16) -> String {
        if let Some(url) = &self.server.url {
            return url.clone();
        }
        let name = self.server.names.first().map_or("localhost", String::as_str);
        let bare_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
        if bare_v6 { format!("https://[{name}]:{port}") } else { format!("https://{name}:{port}") }
    }

    /// Longest a graceful stop waits for requests under way.
    #[must_use]
    pub fn shutdown_grace(&self) -> Duration {
        self.limits.shutdown_grace.into()
    }
}

/// Writes one variable into the table, as its TOML value or, failing that, as a string.
fn overlay_one(table: &mut toml::Table, variable: &str, value: &str) -> Result<(), ConfigError> {
    let refuse = |reason: &str| ConfigError::Environment { variable: variable.into(), reason: reason.into() };
    let path = variable[OVERLAY_PREFIX.len()..].to_ascii_lowercase();
    let (section, key) = path.split_once("__").ok_or_else(|| refuse("expected SORDINO__SECTION__KEY"))?;
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    let section = section.as_table_mut().ok_or_else(|| refuse("names no section"))?;
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().filter(|table| table.len() == 1);
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    section.insert(key.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
    Ok(())
}

const OVERLAY_PREFIX: &str = "SORDINO__";
/// Bytes of a configuration file, at most: far above any that people write.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "[federation]\nname = \"hospitals.example\"\n";

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<ServerConfig, ConfigError> {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        ServerConfig::parse(Path::new("/etc/sordino/sordino.toml"), text, variables)
    }

    #[test]
    fn defaults_listen_on_loopback() {
        let config = parse(PLAIN, &[]).expect("the smallest file");
        assert!(config.server.listen.ip().is_loopback());
        assert!(!config.insecure_dev());
        assert_eq!(config.server.data, Path::new("/etc/sordino/data"));
        assert_eq!(config.keys.server_key, Path::new("/etc/sordino/keys/server.key"));
        assert_eq!(config.url(8443), "https://localhost:8443");
        assert_eq!(config.shutdown_grace(), Duration::from_secs(30));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        for (text, key) in [
            (format!("{PLAIN}[server]\nlistn = \"127.0.0.1:1\"\n"), "listn"),
            (format!("{PLAIN}[limits]\nmax_conections = 3\n"), "max_conections"),
            (format!("{PLAIN}[sever]\n"), "sever"),
            (format!("{PLAIN}[server]\ninsecure_dev = true\n"), "insecure_dev"),
            (format!("insecure_dev = true\n{PLAIN}"), "insecure_dev"),
        ] {
            let error = parse(&text, &[]).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("/etc/sordino/sordino.toml"), "{error}");
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = format!("{PLAIN}[server]\nlisten = \"127.0.0.1:1\"\n");
        let overlay = [
            ("SORDINO__SERVER__LISTEN", "127.0.0.1:2"),
            ("SORDINO__LIMITS__MAX_CONNECTIONS", "7"),
            ("SORDINO__SERVER__NAMES", "[\"a.example\", \"::1\"]"),
            ("SORDINO_OTHER", "not ours"),
        ];
        let config = parse(&text, &overlay).expect("a good overlay");
        assert_eq!((config.server.listen.port(), config.limits.max_connections), (2, 7));
        assert_eq!(config.server.names, ["a.example", "::1"]);
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (variable, value) in [
            ("SORDINO__SERVER__LISTN", "127.0.0.1:2"),
            ("SORDINO__LIMITS__MAX_CONNECTIONS", "many"),
            ("SORDINO__SERVER", "x"),
        ] {
            let error = parse(PLAIN, &[(variable, value)]).expect_err(variable).to_string();
            assert!(error.contains(variable), "{error}");
        }
    }

    #[test]
    fn limits_have_limits() {
        for (line, key) in [
            ("max_connections = 0", "limits.max_connections"),
            ("chunk_bytes = 1", "limits.chunk_bytes"),
            ("long_poll_max = 86400", "limits.long_poll_max"),
        ] {
            let error = parse(&format!("{PLAIN}[limits]\n{line}\n"), &[]).expect_err(line).to_string();
            assert!(error.contains(key), "{error}");
        }
        parse(&format!("{PLAIN}[limits]\nhandshake_timeout = -1\n"), &[]).expect_err("a negative time");
    }

    #[test]
    fn unsafe_settings_stay_on_loopback() {
        let mut config = parse(&format!("{PLAIN}[server]\nlisten = \"0.0.0.0:8443\"\n"), &[]).expect("public");
        assert!(matches!(config.allow_insecure_dev(), Err(ConfigError::InsecureOffLoopback { .. })));
        assert!(!config.insecure_dev());
        let mut config = parse(PLAIN, &[]).expect("loopback");
        config.allow_insecure_dev().expect("loopback");
        assert!(config.insecure_dev());
    }
}
