//! What the operator's rules make of a request: refused, or known by another name than the client or the node uses.
//!
//! Must not know a rule itself: they are data (`command::Rules`). Invariant: a request is judged once, by the client's own
//! words, on whichever way it takes; what the rules do not concern is neither copied nor delayed.

use std::borrow::Cow;
use std::rc::Rc;

use super::{Session, errors};
use crate::command::{self, Class, Ruling, Verdict};
use crate::metrics::Count;
use crate::resp::Args;

/// A request that the rules let through.
pub(super) struct Ruled<'a> {
    /// Under its command's own name.
    pub real: Cow<'a, [u8]>,
    /// As nodes know it.
    pub sent: Cow<'a, [u8]>,
    allowed: bool,
}

impl Ruled<'_> {
    /// Neither renamed nor let through by a rule.
    pub fn is_plain(&self) -> bool {
        !self.allowed && matches!((&self.real, &self.sent), (Cow::Borrowed(_), Cow::Borrowed(_)))
    }

    pub fn verdict(&self) -> Verdict {
        let mut verdict = command::classify(Args::new(&self.real));
        if self.allowed && verdict.class == Class::Forbidden {
            // On a connection of its own that ends with its client, whatever the command does to it.
            verdict.class = Class::Blocking;
        }
        verdict
    }
}

impl Session {
    /// # Errors
    /// The error reply to give the client.
    pub(super) fn ruled<'a>(&self, request: &'a [u8]) -> Result<Ruled<'a>, Vec<u8>> {
        let (real, sent, allowed) = match self.front.rules.judge(request) {
            Ruling::Plain => (None, None, false),
            Ruling::Denied => return Err(errors::denied(&name(request))),
            Ruling::Gone => return Err(errors::unknown_command(request)),
            Ruling::Passed(passed) => (passed.real, passed.upstream.or(passed.real), passed.allowed),
        };
        let under = |name: Option<&[u8]>| match name {
            Some(name) => Cow::Owned(command::renamed(request, name)),
            None => Cow::Borrowed(request),
        };
        Ok(Ruled { real: under(real), sent: under(sent), allowed })
    }

    /// Acts on a request that came alone.
    pub(super) async fn act_by_rules(self: &Rc<Self>, request: &[u8]) -> bool {
        match self.ruled(request) {
            Ok(ruled) if ruled.real != ruled.sent || (ruled.allowed && command::refused_by_default(&ruled.real)) => {
                self.pin(request).await
            }
            Ok(ruled) => self.act(&ruled.real, request).await,
            Err(text) => {
                self.front.cells.count(Count::RefusedForbidden, 1);
                self.local(&text)
            }
        }
    }

    /// The most that is held of what redweir has to look at as a whole.
    pub(super) fn kept_bytes(&self) -> usize {
        self.front.listener.holding.session_bytes.max(self.front.limits.large_bytes)
    }

    /// Whether a request of at least `needs` bytes, of which `input` is the beginning, is too large to be held. Larger ones are
    /// held when they are redweir's to look at, and no values.
    pub(super) fn streams(&self, input: &[u8], needs: usize) -> bool {
        let bytes = needs.max(input.len());
        let ours = |class| matches!(class, Class::Session | Class::Local | Class::AllNodes | Class::Forbidden);
        bytes > self.front.limits.large_bytes
            && (bytes > self.kept_bytes() || !ours(command::classify(Args::new(input)).class))
    }

    /// The refusal of a request too large to be held, of which `input` is the beginning. Another name would have to be
    /// written into it while it streams.
    pub(super) fn large_refusal(&self, input: &[u8]) -> Option<Vec<u8>> {
        let text = match self.ruled(input) {
            Err(text) => text,
            Ok(Ruled { real: Cow::Borrowed(_), sent: Cow::Borrowed(_), .. }) => return None,
            Ok(_) => errors::LARGE_RENAMED.to_vec(),
        };
        self.front.cells.count(Count::RefusedForbidden, 1);
        Some(text)
    }
}

/// As Redis' ACL errors name it: `config|set`.
fn name(request: &[u8]) -> String {
    let mut args = Args::new(request);
    match command::classify(args).command {
        Some(command) => command.name.to_owned(),
        None => String::from_utf8_lossy(args.next().unwrap_or_default()).to_lowercase(),
    }
}
