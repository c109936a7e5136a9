//! The one way from a running skill to the outside world.
//!
//! [`GatewayPort::call_tool`] reads in the order in which a call is checked: manifest, grant, ledger, the tool as the
//! operator saw it, its arguments, a human, the intent, the send, the outcome. It grants nothing and never sends an effect
//! twice by itself. Called by the sandbox for the run that the gateway opened it for.

use crate::client::{Age, Answered, CallError, Live};
use crate::config::{Idempotency, ServerConfig};
use crate::gateway::{Inner, grant_command};
use crate::ledger::{Begun, Decision, Ledger, MAX_ROUNDS, Outcome, Passed, Wanted, refused};
use crate::tool::{KeyPlace, Request, ServerTool};
use async_trait::async_trait;
use chimera_core::effect::SentKey;
use chimera_core::failpoint;
use chimera_core::failure::{Failure, FailureKind, codes as core_codes};
use chimera_core::grant::{Asker, Grant, SlotGrant, ToolMode, ToolPolicy, Want, covering};
use chimera_core::ids::{ApprovalId, LeaseId};
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::manifest::McpSlot;
use chimera_core::ports::{HostError, Invocation, McpPort, ToolAnswer, ToolCall, ToolInfo};
use chimera_core::schema::{check, check_in_passing};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Codes of the failures that only the gateway gives; they are in [`chimera_core::failure::codes`] beside all others.
pub mod codes {
    pub use chimera_core::failure::codes::{
        ANSWER_UNUSABLE, ARGUMENTS_INVALID, EFFECT_OUTSIDE_TASK, LEASE_LOST, SERVER_REFUSED, SERVER_TIMEOUT,
        TOOL_CHANGED,
    };
}

/// What is kept of a call's time for the commits after the send.
const RESERVE: Duration = Duration::from_millis(200);
/// Longest time that the check of arguments is waited for.
const CHECK_TIME: Duration = Duration::from_secs(2);
/// Largest arguments in bytes of JSON.
const MAX_ARGUMENT_BYTES: usize = 1024 * 1024;

/// The port of one run.
pub(crate) struct GatewayPort {
    inner: Arc<Inner>,
    run: Arc<Invocation>,
    ledger: Arc<Ledger>,
}

/// A granted tool: whose it is and what the operator said of it.
struct Granted {
    server: String,
    policy: ToolPolicy,
}

/// What came of a send.
enum Sent {
    Answered(ToolAnswer),
    /// Certainly nothing was done.
    NotDone(Failure),
    /// It may have been done.
    Unknown(CallError),
}

impl GatewayPort {
    pub(crate) fn new(inner: Arc<Inner>, invocation: Invocation) -> Self {
        let run = Arc::new(invocation);
        let ledger = Ledger::new(inner.truth.clone(), inner.clock.clone(), inner.ids.clone(), run.clone());
        Self { inner, run, ledger: Arc::new(ledger) }
    }

    /// The manifest: a skill that reaches beyond it is stopped at once.
    fn declared(&self, slot: &str, want: Want<'_>) -> Result<&McpSlot, Failure> {
        let declared = self.run.manifest.capabilities.slot(slot).filter(|slot| match want {
            Want::Tool(tool) => slot.tools.contains(tool),
            Want::Resource(uri) => slot.resources.contains(uri),
            Want::List => true,
        });
        declared.ok_or_else(|| {
            let what = match want {
                Want::Tool(tool) => format!("tool `{}` of slot `{}`", cut(tool), cut(slot)),
                Want::Resource(uri) => format!("resource `{}` of slot `{}`", cut(uri), cut(slot)),
                Want::List => format!("slot `{}`", cut(slot)),
            };
            let message = format!("`{}` reached for {what}, which its manifest does not declare", self.run.skill.name);
            Failure::new(FailureKind::Security, core_codes::NOT_DECLARED, message)
        })
    }

    async fn grants(&self) -> Result<Vec<Grant>, HostError> {
        Ok(self.inner.truth.grants(Some(&self.run.skill.name)).await?)
    }

    fn covering<'g>(&self, grants: &'g [Grant], slot: &str, want: Want<'_>) -> Option<&'g SlotGrant> {
        let asker = Asker { skill: &self.run.skill.name, campaign: self.run.campaign, now: self.inner.clock.now() };
        covering(grants, asker, slot, want).map(|(_, permitted)| permitted)
    }

    /// The grant: what no operator allowed is denied.
    async fn granted(&self, call: &ToolCall) -> Result<Granted, HostError> {
        let grants = self.grants().await?;
        let grant = self.covering(&grants, &call.slot, Want::Tool(&call.tool));
        match grant.and_then(|grant| Some((grant, grant.tools.get(&call.tool)?))) {
            Some((grant, policy)) => Ok(Granted { server: grant.server.clone(), policy: policy.clone() }),
            None => Err(self.not_granted(&call.slot, Want::Tool(&call.tool)).into()),
        }
    }

    fn not_granted(&self, slot: &str, want: Want<'_>) -> Failure {
        let names = self.inner.pool.names();
        let server =
            names.iter().find(|name| *name == slot).or_else(|| if names.len() == 1 { names.first() } else { None });
        let server = server.map_or("SERVER", String::as_str);
        let skill = &self.run.skill.name;
        let command = grant_command(skill, slot, server, want);
        let what = match want {
            Want::Tool(tool) => format!("call `{tool}` on slot `{slot}`"),
            Want::Resource(uri) => format!("read `{}` on slot `{slot}`", cut(uri)),
            Want::List => format!("use slot `{slot}`"),
        };
        let message = format!("no grant lets `{skill}` {what}; an operator can allow it with: {command}");
        Failure::new(FailureKind::Denied, core_codes::NOT_GRANTED, message)
    }

    /// The server, and the tool as the operator saw it: one that has changed since is quarantined.
    async fn inspect(
        &self,
        call: &ToolCall,
        granted: &Granted,
        until: Instant,
    ) -> Result<(Arc<Live>, ServerTool), HostError> {
        let age = if granted.policy.mode == ToolMode::Read { Age::Recent } else { Age::Now };
        let (live, table) = self.tools(&granted.server, until, age).await?;
        let tool = table.get(&call.tool);
        match (tool, &granted.policy.pin) {
            (Some(tool), Some(pin)) if tool.pin != *pin => {
                self.inner.quarantine(&self.run, call, &granted.server, Some(tool)).await;
                Err(changed(&granted.server, call, "is not what it was when it was granted").into())
            }
            (Some(tool), _) => Ok((live, tool.clone())),
            (None, _) => {
                self.inner.quarantine(&self.run, call, &granted.server, None).await;
                Err(changed(&granted.server, call, "is not offered any more").into())
            }
        }
    }

    async fn tools(
        &self,
        name: &str,
        until: Instant,
        age: Age,
    ) -> Result<(Arc<Live>, Arc<crate::tool::ToolTable>), Failure> {
        let server = self
            .inner
            .server(name)
            .map_err(|error| Failure::new(FailureKind::Denied, core_codes::UNREACHABLE, error.to_string()))?;
        let live = server.live(until).await.map_err(|error| failure(name, &error))?;
        let table = live.tools(until, age).await.map_err(|error| failure(name, &error))?;
        Ok((live, table))
    }

    fn config(&self, server: &str) -> Option<&ServerConfig> {
        self.inner.pool.get(server).map(|server| &server.config)
    }

    /// The arguments, against the schema that the skill was shown.
    async fn check(&self, tool: &ServerTool, server: &str, arguments: &Value) -> Result<(), Failure> {
        let shown = tool.for_skill(self.idempotency(server)).input_schema;
        let checked = match check_in_passing(&shown, arguments) {
            Some(checked) => Some(checked),
            None => check_apart(shown, arguments.clone()).await,
        };
        let late = || {
            let message = format!("to hold the arguments of `{}` against its schema took too long", tool.info.name);
            Failure::new(FailureKind::Transient, core_codes::HOST, message)
        };
        checked
            .ok_or_else(late)?
            .map_err(|problem| invalid(&tool.info.name, &format!("do not fit its schema: {problem}")))
    }

    fn idempotency(&self, server: &str) -> &Idempotency {
        self.config(server).map_or(&Idempotency::None, |config| &config.idempotency)
    }

    fn until(&self, server: &str, deadline: Instant) -> Instant {
        let limit = self.config(server).map_or(Duration::ZERO, |config| config.call_timeout);
        (Instant::now() + limit).min(deadline.checked_sub(RESERVE).unwrap_or(deadline))
    }

    /// A call that changes nothing: sent at once, and again by whoever asks again.
    async fn read(&self, call: &ToolCall, granted: &Granted, deadline: Instant) -> Result<ToolAnswer, HostError> {
        let until = self.until(&granted.server, deadline);
        let (live, tool) = self.inspect(call, granted, until).await?;
        self.check(&tool, &granted.server, &call.arguments).await?;
        let request = request(&tool, &call.arguments, None)?;
        let answered = live.call(request, until).await.map_err(|error| failure(&granted.server, &error))?;
        match answered.cut {
            None => Ok(answered.answer),
            Some(problem) => Err(failure(&granted.server, &CallError::Unusable(problem)).into()),
        }
    }

    /// A call that changes the world: the ledger decides, and is written before and after the send.
    async fn effect(&self, call: &ToolCall, granted: &Granted, deadline: Instant) -> Result<ToolAnswer, HostError> {
        let lease = self.lease(call)?;
        let key = self.ledger.key(call, &granted.server);
        let wanted = Wanted { call, server: &granted.server, key, lease };
        for _ in 0..MAX_ROUNDS {
            // What is settled needs no server.
            let decision = self.ledger.consult(&wanted, granted.policy.mode).await.map_err(HostError::ending)?;
            match &decision {
                Decision::Answer(answer) => return Ok(answer.clone()),
                Decision::Refused => return Err(HostError::End(refused(&wanted))),
                Decision::Wait(approval) => return Err(HostError::Suspend(*approval)),
                _ => {}
            }
            let until = self.until(&granted.server, deadline);
            let inspected = self.inspect(call, granted, until).await;
            let (live, tool) = match &decision {
                // Told of it, the guest would go on, and could ask for the same thing under another number.
                Decision::Unfinished(_) => inspected.map_err(HostError::ending)?,
                _ => inspected?,
            };
            let passed = match decision {
                Decision::Gate(place) => {
                    self.check(&tool, &granted.server, &call.arguments).await?;
                    suspended(self.ledger.gate(&wanted, place).await)?
                }
                Decision::AskAboutDivergence(place, earlier) => {
                    self.check(&tool, &granted.server, &call.arguments).await?;
                    suspended(self.ledger.ask_about_divergence(&wanted, place, &earlier).await)?
                }
                Decision::Send(place, allowed) => {
                    // What a human wrote is checked like what the guest wrote.
                    let arguments = allowed.as_ref().map_or(&call.arguments, |(arguments, _)| arguments);
                    match self.check(&tool, &granted.server, arguments).await {
                        Ok(()) => {
                            let key = self.sent_key(&tool, &granted.server);
                            self.ledger.intend(&wanted, place, allowed, key).await.map_err(HostError::ending)?
                        }
                        // The guest cannot mend what a human wrote; only a human can.
                        Err(problem) if *arguments != call.arguments && problem.kind == FailureKind::InvalidInput => {
                            suspended(self.ledger.gate_again(&wanted, place, &problem.message).await)?
                        }
                        Err(problem) => return Err(problem.into()),
                    }
                }
                // The server knows the call again only by a key that it was sent the first time as well.
                Decision::Unfinished(effect)
                    if effect.sent_key == SentKey::Sent && self.sent_key(&tool, &granted.server) == SentKey::Sent =>
                {
                    self.ledger.take_over(&wanted, &effect).await.map_err(HostError::ending)?
                }
                Decision::Unfinished(effect) => suspended(self.ledger.ask_what_happened(&wanted, &effect).await)?,
                Decision::Answer(_) | Decision::Refused | Decision::Wait(_) => Passed::Again,
            };
            if let Passed::Done(begun) = passed {
                return self.send_and_settle(&wanted, begun, live, &tool, until).await;
            }
        }
        let message = "the effect's row kept changing while the call was decided";
        Err(HostError::End(Failure::new(FailureKind::Transient, core_codes::HOST, message)))
    }

    fn lease(&self, call: &ToolCall) -> Result<LeaseId, Failure> {
        self.run.lease.ok_or_else(|| {
            let message = format!(
                "`{}` would change the outside world, and this run belongs to no task; run it in a campaign instead",
                call.tool
            );
            Failure::new(FailureKind::Denied, codes::EFFECT_OUTSIDE_TASK, message)
        })
    }

    fn sent_key(&self, tool: &ServerTool, server: &str) -> SentKey {
        match tool.key_place(self.idempotency(server)) {
            Some(_) => SentKey::Sent,
            None => SentKey::NotSent,
        }
    }

    /// Sends an effect and records what came of it. From here on the guest is told only what is settled: any other end is
    /// the run's, and the next run gets to this call again.
    async fn send_and_settle(
        &self,
        wanted: &Wanted<'_>,
        begun: Begun,
        live: Arc<Live>,
        tool: &ServerTool,
        until: Instant,
    ) -> Result<ToolAnswer, HostError> {
        let place = tool.key_place(self.idempotency(wanted.server));
        let (effect, is_first) = (begun.effect.clone(), begun.is_first());
        let request = request(tool, &effect.arguments, place.map(|place| (place, effect.key.idempotency_key())))?;
        // In a task of its own: the guest may be dropped while it waits, and the outcome is to be recorded all the same.
        let sending = self.inner.pool.runtime().spawn({
            let (ledger, call) = (self.ledger.clone(), wanted.call.clone());
            let (server, key, lease) = (wanted.server.to_owned(), wanted.key.clone(), wanted.lease);
            async move {
                let wanted = Wanted { call: &call, server: &server, key, lease };
                failpoint::hit("mcp.before_send");
                let result = live.call(request, until).await;
                failpoint::hit("mcp.after_send");
                let sent = Sent::from_result(&server, result);
                let outcome = match &sent {
                    Sent::Answered(answer) => Outcome::Done(answer.clone()),
                    Sent::NotDone(_) => Outcome::NotDone,
                    Sent::Unknown(_) => return Ok(sent),
                };
                ledger.settle(&wanted, &begun, &outcome).await?;
                failpoint::hit("mcp.after_outcome");
                Ok::<_, HostError>(sent)
            }
        });
        let ended = |error| Failure::new(FailureKind::Transient, core_codes::HOST, format!("the call ended: {error}"));
        let sent = sending.await.map_err(|error| HostError::End(ended(error)))?.map_err(HostError::ending)?;
        match sent {
            Sent::Answered(answer) => Ok(answer),
            Sent::NotDone(failure) if is_first => Err(failure.into()),
            // This send did nothing, but an earlier one may have.
            Sent::NotDone(failure) => Err(HostError::End(failure)),
            Sent::Unknown(error) if place.is_some() => {
                let message = format!(
                    "it is not known whether `{}` happened on server `{}` ({error}); it is asked again with the same key",
                    wanted.call.tool, wanted.server
                );
                Err(HostError::End(Failure::new(FailureKind::Transient, core_codes::EFFECT_UNKNOWN, message)))
            }
            Sent::Unknown(error) => {
                tracing::warn!(effect = %effect.id, server = wanted.server, %error, "nobody knows whether an effect happened");
                suspended::<()>(self.ledger.ask_what_happened(wanted, &effect).await)?;
                let message = "the outcome was decided elsewhere meanwhile";
                Err(HostError::End(Failure::new(FailureKind::Transient, core_codes::EFFECT_UNKNOWN, message)))
            }
        }
    }
}

#[async_trait]
impl McpPort for GatewayPort {
    async fn list_tools(&self, slot: &str, deadline: Instant) -> Result<Vec<ToolInfo>, HostError> {
        let declared = self.declared(slot, Want::List)?;
        let grants = self.grants().await?;
        let mut by_server: BTreeMap<&str, Vec<(&str, &ToolPolicy)>> = BTreeMap::new();
        for tool in &declared.tools {
            let grant = self.covering(&grants, slot, Want::Tool(tool));
            if let Some((grant, policy)) = grant.and_then(|grant| Some((grant, grant.tools.get(tool)?))) {
                by_server.entry(&grant.server).or_default().push((tool, policy));
            }
        }
        if by_server.is_empty() {
            return Err(self.not_granted(slot, Want::List).into());
        }
        let mut tools = Vec::new();
        for (server, granted) in by_server {
            let (_, table) = self.tools(server, self.until(server, deadline), Age::Recent).await?;
            let idempotency = self.idempotency(server);
            let usable = granted.iter().filter_map(|(name, policy)| {
                let tool = table.get(*name)?;
                policy.pin.is_none_or(|pin| pin == tool.pin).then(|| tool.for_skill(idempotency))
            });
            tools.extend(usable);
        }
        Ok(tools)
    }

    async fn call_tool(&self, call: ToolCall, deadline: Instant) -> Result<ToolAnswer, HostError> {
        self.declared(&call.slot, Want::Tool(&call.tool))?;
        check_arguments(&call)?;
        let granted = self.granted(&call).await?;
        match granted.policy.mode {
            ToolMode::Read => self.read(&call, &granted, deadline).await,
            ToolMode::Effect | ToolMode::EffectWithApproval => self.effect(&call, &granted, deadline).await,
        }
    }

    async fn read_resource(&self, slot: &str, uri: &str, deadline: Instant) -> Result<String, HostError> {
        self.declared(slot, Want::Resource(uri))?;
        let grants = self.grants().await?;
        let Some(grant) = self.covering(&grants, slot, Want::Resource(uri)) else {
            return Err(self.not_granted(slot, Want::Resource(uri)).into());
        };
        let until = self.until(&grant.server, deadline);
        let server = self
            .inner
            .server(&grant.server)
            .map_err(|error| Failure::new(FailureKind::Denied, core_codes::UNREACHABLE, error.to_string()))?;
        let live = server.live(until).await.map_err(|error| failure(&grant.server, &error))?;
        Ok(live.read(uri, until).await.map_err(|error| failure(&grant.server, &error))?)
    }

    async fn replayed(&self, call: &ToolCall) {
        self.ledger.replayed(call);
    }
}

impl Sent {
    fn from_result(server: &str, result: Result<Answered, CallError>) -> Self {
        match result {
            Ok(Answered { answer, cut }) => {
                if let Some(problem) = cut {
                    tracing::warn!(server, problem, "the answer of an effect was cut");
                }
                Self::Answered(answer)
            }
            Err(error @ (CallError::NotSent { .. } | CallError::Refused(_))) => Self::NotDone(failure(server, &error)),
            Err(error) => Self::Unknown(error),
        }
    }
}

/// A server's schema can be much work: not on the runtime's own threads, and a few at a time. How much it can be at most is
/// bounded by [`chimera_core::schema`]. None when it was not done in time.
async fn check_apart(schema: Value, arguments: Value) -> Option<Result<(), String>> {
    static PLACES: Semaphore = Semaphore::const_new(4);
    let checked = async move {
        let place = PLACES.acquire().await.ok()?;
        let checked = tokio::task::spawn_blocking(move || {
            // A check that nobody waits for any more still has its place.
            let _place = place;
            check(&schema, &arguments)
        });
        checked.await.ok()
    };
    tokio::time::timeout(CHECK_TIME, checked).await.ok().flatten()
}

fn suspended<T>(asked: Result<Passed<ApprovalId>, HostError>) -> Result<Passed<T>, HostError> {
    match asked.map_err(HostError::ending)? {
        Passed::Done(approval) => Err(HostError::Suspend(approval)),
        Passed::Again => Ok(Passed::Again),
    }
}

fn changed(server: &str, call: &ToolCall, how: &str) -> Failure {
    let message = format!(
        "tool `{}` of server `{server}` {how}; look at it with `chimera mcp tools {server}` and grant it again if it is \
         still wanted",
        call.tool
    );
    Failure::new(FailureKind::Denied, codes::TOOL_CHANGED, message)
}

fn check_arguments(call: &ToolCall) -> Result<(), Failure> {
    let problem = if !call.arguments.is_object() {
        "must be a JSON object".to_owned()
    } else if is_deeper_than(&call.arguments, MAX_DEPTH) {
        format!("are nested deeper than {MAX_DEPTH}")
    } else if call.arguments.to_string().len() > MAX_ARGUMENT_BYTES {
        format!("are larger than {} KiB", MAX_ARGUMENT_BYTES >> 10)
    } else {
        return Ok(());
    };
    Err(invalid(&call.tool, &problem))
}

fn invalid(tool: &str, problem: &str) -> Failure {
    let message = format!("the arguments of `{tool}` {problem}");
    Failure::new(FailureKind::InvalidInput, codes::ARGUMENTS_INVALID, message)
}

/// What is sent.
fn request(tool: &ServerTool, arguments: &Value, key: Option<(KeyPlace<'_>, String)>) -> Result<Request, Failure> {
    Request::new(&tool.info.name, arguments, key).ok_or_else(|| invalid(&tool.info.name, "must be a JSON object"))
}

/// What a guest is told of a call without an answer.
pub(crate) fn failure(server: &str, error: &CallError) -> Failure {
    let message = format!("server `{server}`: {error}");
    match error {
        CallError::NotSent { retry_after, .. } => {
            let failure = Failure::new(FailureKind::Transient, core_codes::UNREACHABLE, message);
            match retry_after {
                Some(span) => failure.retry_after(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
                None => failure,
            }
        }
        CallError::Ended(None) => Failure::new(FailureKind::Transient, core_codes::UNREACHABLE, message),
        CallError::TimedOut(_) => Failure::new(FailureKind::Transient, codes::SERVER_TIMEOUT, message),
        CallError::Refused(_) => Failure::new(FailureKind::Permanent, codes::SERVER_REFUSED, message),
        CallError::Ended(Some(_)) | CallError::Unusable(_) => {
            Failure::new(FailureKind::Permanent, codes::ANSWER_UNUSABLE, message)
        }
    }
}

fn cut(text: &str) -> String {
    chimera_core::text::printable(&chimera_core::text::truncated(text.to_owned(), 128))
}
