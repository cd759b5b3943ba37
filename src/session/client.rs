//! CLIENT: the session's own identity, in redweir's id space. Nothing of it reaches a node.

use super::Session;
use super::commands::bulk_or_null;
use super::errors;
use super::state::State;
use crate::command;
use crate::resp::{Args, encode};

impl Session {
    pub(super) fn client(&self, name: &str, request: &[u8]) -> bool {
        let reply = self.client_reply(&mut self.state.borrow_mut(), name, request);
        self.local(&reply)
    }

    /// The answer to a CLIENT subcommand.
    pub(super) fn client_reply(&self, s: &mut State, name: &str, request: &[u8]) -> Vec<u8> {
        let known = command::classify(Args::new(request)).command;
        if let Some(command) = known.filter(|command| !Self::arity_fits(command, request)) {
            return errors::arity(command.name);
        }
        let argument = Args::new(request).nth(2).unwrap_or_default();
        match name {
            "client|id" => {
                let mut out = Vec::new();
                encode::integer(&mut out, self.id as i64);
                out
            }
            "client|getname" => bulk_or_null((!s.name.is_empty()).then_some(&*s.name), s.resp),
            "client|setname" => set_name(s, argument),
            "client|setinfo" => {
                let value = Args::new(request).nth(3).unwrap_or_default();
                set_info(argument, value)
            }
            "client|info" => {
                let line = self.describe(s);
                bulk_or_null(Some(line.as_bytes()), 2)
            }
            "client|no-evict" if is_switch(argument) => errors::OK.to_vec(),
            "client|no-evict" => errors::SYNTAX.to_vec(),
            "client|capa" => errors::OK.to_vec(),
            other => errors::unsupported(other),
        }
    }

    /// The line of CLIENT INFO, as far as it is known here (networking.c catClientInfoString).
    fn describe(&self, s: &State) -> String {
        let peer = s.stream.peer_addr().map(|a| a.to_string()).unwrap_or_default();
        let local = s.stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
        let lane = self.front.pool.describe(s.lane);
        let user = lane.and_then(|l| l.login).and_then(|l| l.username).unwrap_or_else(|| "default".into());
        let name = String::from_utf8_lossy(&s.name).into_owned();
        format!(
            "id={} addr={peer} laddr={local} name={name} db={} sub=0 psub=0 multi=-1 qbuf={} obl={} cmd=client|info user={user} resp={}\n",
            self.id,
            s.db,
            s.input.len(),
            s.out.len(),
            s.resp
        )
    }
}

fn set_name(s: &mut State, name: &[u8]) -> Vec<u8> {
    if !is_plain(name) {
        return errors::NAME_INVALID.to_vec();
    }
    s.name = name.to_vec();
    errors::OK.to_vec()
}

/// CLIENT SETINFO: checked as Redis does, kept nowhere but in the client's mind.
fn set_info(option: &[u8], value: &[u8]) -> Vec<u8> {
    if !option.eq_ignore_ascii_case(b"lib-name") && !option.eq_ignore_ascii_case(b"lib-ver") {
        return errors::unknown_option(option);
    }
    if is_plain(value) { errors::OK.to_vec() } else { errors::info_invalid(option) }
}

/// networking.c validateClientAttr.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (b'!'..=b'~').contains(b))
}

fn is_switch(argument: &[u8]) -> bool {
    argument.eq_ignore_ascii_case(b"on") || argument.eq_ignore_ascii_case(b"off")
}
