//! Can a client tell redweir from one Redis? The same bytes go to a server of its own and, through redweir, to a master with two
//! replicas of the same version; what comes back is compared byte for byte, in RESP2 and RESP3.
//!
//! `cases/*.txt` say what is sent (`script.rs`), `generated.rs` adds what the server's own COMMAND names, `random.rs` adds
//! sequences of several clients by seed. `normal.rs` is the list of what differs by nature, `known.txt` that of what redweir still
//! does differently. Environment: REDIS_SERVER (the binary of both sides), REDWEIR_SEEDS and REDWEIR_SEED (`random.rs`),
//! REDWEIR_CASES (a part of a file's name), REDWEIR_SERVERS (`versions.rs`).

mod compare;
mod coverage;
mod generated;
mod known;
mod normal;
mod pair;
mod random;
mod script;
mod scripted;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod versions;
mod wire;
