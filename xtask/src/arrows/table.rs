//! Who may depend on what. Arrows go from shell to core; a new crate or dependency gets its line here.

/// What a crate of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Computes: no runtime, socket, file, clock or global randomness.
    Core,
    /// Talks to the world.
    Shell,
    /// Serves the developers; nothing depends on it.
    Tool,
}

/// One crate of ours and where its arrows may point.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Crates of ours it may use.
    pub(crate) ours: &'static [&'static str],
    /// Crates of others it may use beside [`PURE`]; `None` leaves a shell or tool free.
    pub(crate) others: Option<&'static [Allowed]>,
}

/// A dependency that a core may have, and how much of it.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) name: &'static str,
    /// Whether its default features may be on.
    pub(crate) defaults: bool,
    /// Features that may be asked for by name.
    pub(crate) features: &'static [&'static str],
}

/// The place of a crate, if it has one.
pub(crate) fn place(name: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.name == name)
}

/// All cores, in the table's order.
pub(crate) fn cores() -> impl Iterator<Item = &'static str> {
    PLACES.iter().filter(|place| place.kind == Kind::Core).map(|place| place.name)
}

const fn allowed(name: &'static str, features: &'static [&'static str]) -> Allowed {
    Allowed { name, defaults: true, features }
}

/// For crates whose default features bring what a core must not have, or more than we read.
const fn lean(name: &'static str, features: &'static [&'static str]) -> Allowed {
    Allowed { name, defaults: false, features }
}

/// Nothing can depend on these.
pub(crate) const NOBODY_USES: &[&str] = &["sordino", "sordino-chaos", "sordino-evaluate", "xtask"];

/// What every core may use: text, errors, traits and small primitives without an outside world.
/// `rand_core` has the traits only; its sources (`os_rng` and the like) are a shell's.
pub(crate) const PURE: &[Allowed] = &[
    allowed("base64", &[]),
    allowed("hex", &[]),
    allowed("hkdf", &[]),
    allowed("rand_core", &[]),
    allowed("serde", &["derive"]),
    allowed("serde_json", &["float_roundtrip"]),
    allowed("sha2", &[]),
    allowed("subtle", &[]),
    allowed("thiserror", &[]),
    allowed("zeroize", &["derive"]),
];

/// The cipher itself, without its modes.
const KERNEL: &[Allowed] = &[allowed("aes", &["zeroize"])];

const CODEC: &[Allowed] = &[lean("half", &["std"])];

/// Error functions; the noise's generator, which wipes itself and is seeded by what a shell hands in.
const DP: &[Allowed] = &[lean("chacha20", &["rng", "zeroize"]), allowed("libm", &[])];

const SECAGG: &[Allowed] = &[
    lean("aws-lc-rs", &["aws-lc-sys", "prebuilt-nasm"]),
    lean("curve25519-dalek", &["alloc", "zeroize", "precomputed-tables", "rand_core"]),
    lean("ed25519-dalek", DALEK_SIGNATURES),
    // Encapsulates with the coins it is given; without its own randomness.
    lean("libcrux-ml-kem", &["mlkem768"]),
];

const PROOFS: &[Allowed] = &[
    lean("curve25519-dalek", &["alloc", "zeroize", "precomputed-tables", "rand_core"]),
    // Without randomness of their own.
    lean("tari_bulletproofs_plus", &["std"]),
    lean("tari_merlin", &["std"]),
];

const IDENTITY: &[Allowed] = &[
    lean("aws-lc-rs", &["aws-lc-sys", "prebuilt-nasm"]),
    lean("ed25519-dalek", DALEK_SIGNATURES),
    lean("jsonwebtoken", &["aws_lc_rs"]),
    lean("rcgen", &["aws_lc_rs", "pem", "x509-parser", "crypto", "zeroize"]),
    allowed("rustls-pki-types", &["std"]),
    lean("rustls-webpki", &["std", "aws-lc-rs"]),
    // A calendar; its `now` is refused by the cores' lints.
    lean("time", &["std"]),
    lean("x509-parser", &[]),
];

/// Policies are TOML; the parser works on text. Commitments are points, and what blinds them is a scalar.
const WIRE: &[Allowed] = &[
    lean("curve25519-dalek", &["alloc", "zeroize", "precomputed-tables", "rand_core"]),
    lean("toml", &["std", "parse", "display", "serde"]),
];

const SIM: &[Allowed] = &[lean("ed25519-dalek", DALEK_SIGNATURES), lean("rand_chacha", &[])];

const FORGE: &[Allowed] = &[lean("ed25519-dalek", DALEK_SIGNATURES)];

const DALEK_SIGNATURES: &[&str] = &["alloc", "fast", "zeroize", "pkcs8", "batch"];

const CORES: &[&str] =
    &["sordino-kernel", "sordino-codec", "sordino-dp", "sordino-secagg", "sordino-identity", "sordino-wire"];

const SIM_CORES: &[&str] = &[
    "sordino-kernel",
    "sordino-codec",
    "sordino-dp",
    "sordino-secagg",
    "sordino-proofs",
    "sordino-identity",
    "sordino-wire",
    "sordino-forge",
];

/// All crates of the workspace.
const PLACES: &[Place] = &[
    core("sordino-kernel", &[], KERNEL),
    core("sordino-codec", &["sordino-kernel"], CODEC),
    core("sordino-strategy", &["sordino-codec"], &[]),
    core("sordino-dp", &[], DP),
    core("sordino-secagg", &["sordino-kernel", "sordino-codec"], SECAGG),
    core("sordino-proofs", &["sordino-kernel"], PROOFS),
    core("sordino-robust", &[], &[]),
    core("sordino-identity", &[], IDENTITY),
    core(
        "sordino-wire",
        &["sordino-codec", "sordino-strategy", "sordino-dp", "sordino-secagg", "sordino-proofs", "sordino-identity"],
        WIRE,
    ),
    core("sordino-sim", SIM_CORES, SIM),
    // Serves tests and the simulator, and is pure for its sake.
    core("sordino-forge", &[], FORGE),
    shell("sordino-store", CORES),
    shell(
        "sordino-coordinator",
        &[
            "sordino-codec",
            "sordino-strategy",
            "sordino-dp",
            "sordino-secagg",
            "sordino-proofs",
            "sordino-identity",
            "sordino-wire",
            "sordino-store",
        ],
    ),
    // The store for its own privacy ledger.
    shell(
        "sordino-participant",
        &[
            "sordino-kernel",
            "sordino-codec",
            "sordino-dp",
            "sordino-secagg",
            "sordino-proofs",
            "sordino-identity",
            "sordino-wire",
            "sordino-store",
        ],
    ),
    shell(
        "sordino",
        &[
            "sordino-kernel",
            "sordino-codec",
            "sordino-dp",
            "sordino-secagg",
            "sordino-proofs",
            "sordino-identity",
            "sordino-wire",
            "sordino-sim",
            "sordino-strategy",
            "sordino-store",
            "sordino-coordinator",
            "sordino-participant",
        ],
    ),
    Place {
        name: "sordino-fuzz",
        kind: Kind::Tool,
        ours: &["sordino-codec", "sordino-identity", "sordino-proofs", "sordino-secagg", "sordino-wire"],
        others: None,
    },
    // Linked by tests and by the tool that runs real processes behind it.
    Place { name: "sordino-faultproxy", kind: Kind::Tool, ours: &[], others: None },
    Place {
        name: "sordino-chaos",
        kind: Kind::Tool,
        ours: &["sordino-secagg", "sordino-wire", "sordino-participant", "sordino-faultproxy"],
        others: None,
    },
    Place {
        name: "sordino-evaluate",
        kind: Kind::Tool,
        ours: &["sordino-codec", "sordino-dp", "sordino-participant", "sordino-robust", "sordino-wire"],
        others: None,
    },
    Place { name: "xtask", kind: Kind::Tool, ours: &[], others: None },
];

const fn core(name: &'static str, ours: &'static [&'static str], others: &'static [Allowed]) -> Place {
    Place { name, kind: Kind::Core, ours, others: Some(others) }
}

const fn shell(name: &'static str, ours: &'static [&'static str]) -> Place {
    Place { name, kind: Kind::Shell, ours, others: None }
}
