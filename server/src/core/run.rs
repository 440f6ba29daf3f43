//! Step 6: what each action does, once it is permitted. Engines get the permit; what is the server's own is done here.

use std::sync::Arc;

use futures_util::StreamExt;

use super::{
    context::RequestContext,
    error::Error,
    lease, long_stream,
    remember::{Done, Memo},
    request::{
        Action, Answer, AuditAction, CanI, LeaseAction, Needs, PolicyAction, SessionAction, SysAction,
        UserAction,
    },
    state::{Core, Unsealed},
    wrap,
};
use crate::{
    auth::{
        LoginContext,
        users::{self, UserChange, Users},
    },
    engines::{EngineError, Operation, Output},
    model::{Invalid, Path, SecretBytes, Verb},
    permit::Permit,
    policy::{Context, Documents, Question, plan},
    tokens::{TokenError, Which},
};

/// The last administrator takes the way back along.
const LOCKED_OUT: &str = "would leave nobody who may manage sys/policy, so that nobody but a root token could change it; \
    bind somebody first, or set force (--force)";

pub(super) async fn run(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    permitted: Option<(Permit, Needs)>,
    action: Action,
) -> Result<Done, Error> {
    let answer = match (action, permitted) {
        (Action::Engine { operation, .. }, Some((permit, needs))) => {
            engine(core, unsealed, request, permit, operation, needs).await
        }
        (Action::Wrap { operation, wrap, .. }, Some((permit, needs))) => {
            let path = permit.path().clone();
            let answer = engine(core, unsealed, request, permit, operation, needs).await?;
            wrap::keep(core, unsealed, request, (wrap, path), answer).await
        }
        (Action::Session(action), _) => return session(core, unsealed, request, action).await,
        (Action::Revoke(which), Some(_)) => {
            unsealed.tokens.revoke(which, core.clock.now(), Some(request.id())).await?;
            Ok(Answer::Done)
        }
        (Action::User(action), Some(_)) => return user(core, unsealed, request, action).await,
        (Action::Policy(action), Some(_)) => policy(unsealed, request, action).await,
        (Action::Sys(action), Some(_)) => sys(core, unsealed, request, action).await,
        (Action::Audit(action), Some(permitted)) => audit(core, unsealed, request, action, permitted),
        (Action::Lease(LeaseAction::Issue { ttl, .. }), Some((permit, needs))) => {
            let operation = issuing(unsealed, permit.path(), needs.verbs, ttl)?;
            let answer = engine(core, unsealed, request, permit, operation, needs).await?;
            lease::by_names(core, answer)
        }
        (Action::Lease(action), permitted) => {
            lease::run(core, unsealed, request, action, permitted.is_some()).await
        }
        (_, None) => Err(Error::Internal("an action came without its permit".to_owned())),
    };
    answer.map(Done::from)
}

/// What the engine at a path is asked for whatever it issues.
fn issuing(
    unsealed: &Unsealed,
    path: &Path,
    granted: &[Verb],
    ttl: Option<u64>,
) -> Result<Box<dyn Operation>, Error> {
    let operation = unsealed.enter(path)?.engine().issues(ttl).ok_or_else(|| {
        let problem = format!(
            "is in {}/, which issues nothing; expected one in a mount of the kind database, for example",
            path.mount()
        );
        Invalid::new("path", problem)
    })?;
    // The permit is for what was granted, and the engine's own word for it may need something else.
    match operation.verbs() == granted {
        true => Ok(operation),
        false => Err(Error::Internal("an engine issues with another verb than use".to_owned())),
    }
}

async fn engine(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    permit: Permit,
    operation: Box<dyn Operation>,
    needs: Needs,
) -> Result<Answer, Error> {
    let place = permit.path().clone();
    let scope = permit.scope().clone();
    let entered = unsealed.enter(&place)?;
    match entered.engine().run(permit, operation).await {
        Ok(Output::One(reply)) => Ok(Answer::Reply(reply)),
        Ok(Output::Many(replies)) => {
            let replies = replies.map(move |next| next.map_err(|error| engine_error(error, place.as_str())));
            let replies = long_stream::while_valid(core, unsealed, request, scope, needs, replies);
            Ok(Answer::Replies(long_stream::while_mounted(entered.mounted(), replies)))
        }
        Ok(Output::Lease(terms, make)) => {
            lease::issue(core, unsealed, request, (&place, needs.verbs), terms, make).await
        }
        Err(error) => Err(engine_error(error, place.as_str())),
    }
}

pub(super) fn engine_error(error: EngineError, place: &str) -> Error {
    match error {
        EngineError::Needs(verb) => Error::Needs(verb, place.to_owned()),
        EngineError::Invalid(invalid) => Error::Invalid(invalid),
        other => Error::Engine(other),
    }
}

async fn session(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    action: SessionAction,
) -> Result<Done, Error> {
    let session = &request.session;
    let answer = match action {
        SessionAction::Renew => {
            if !unsealed.methods.may_renew(&session.principal) {
                return Err(TokenError::NotRenewable { max_expires: session.expires }.into());
            }
            let (token, session) = unsealed.tokens.renew(session, request.at)?;
            Answer::Token(token, session)
        }
        SessionAction::Whoami => {
            let context = Context { peer: request.origin.peer, now: request.at, wrapped: false };
            let roles = unsealed.policy.current().roles_of(&session.principal, &context);
            Answer::Whoami((**session).clone(), roles)
        }
        SessionAction::Logout => {
            unsealed.tokens.end(session, request.at, Some(request.id())).await?;
            Answer::Done
        }
        SessionAction::CanI(question) => can_i(unsealed, request, &question),
        SessionAction::ChangePassword { current, new } => {
            return change_password(core, unsealed, request, current, new).await;
        }
    };
    Ok(answer.into())
}

fn can_i(unsealed: &Unsealed, request: &RequestContext, question: &CanI) -> Answer {
    // Somebody else does not come from where the caller is.
    let peer = if question.who.is_some() { question.peer } else { request.origin.peer };
    let context = Context { peer, now: request.at, wrapped: false };
    let principal = question.who.as_ref().unwrap_or(&request.session.principal);
    let (verb, path) = (question.verb, &question.path);
    Answer::Decision(unsealed.policy.current().decide(&Question { principal, verb, path, context: &context }))
}

async fn user(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    action: UserAction,
) -> Result<Done, Error> {
    let users = users(unsealed)?;
    match action {
        UserAction::Put { name, password, groups } => {
            // Whoever has the old password, or was in the old groups, has to log in again.
            let change = users.put_user(&name, password, groups, core.clock.now()).await?;
            let memo = change_user(core, unsealed, request, &name, change).await?;
            Ok(Done::and(Ok(Answer::Done), memo))
        }
        UserAction::Delete { name } => {
            let change = users.delete_user(&name).await?;
            // Also if there is no such user: an earlier release could stop between the user's end and the sessions'.
            let answer = match change.existed() {
                true => Ok(Answer::Done),
                false => Err(Error::NoSuch(format!("the user {name}"))),
            };
            let memo = change_user(core, unsealed, request, &name, change).await?;
            Ok(Done::and(answer, memo))
        }
        UserAction::List => Ok(Answer::Users(users.list_users().await?).into()),
    }
}

fn users(unsealed: &Unsealed) -> Result<&dyn Users, Error> {
    unsealed.methods.users().ok_or_else(|| Error::Internal("no method keeps users".to_owned()))
}

/// Whoever knew the old password may have logged in with it, so all sessions of the user end, the caller's too. The caller has
/// proved who they are and gets another, which begins when the others have ended.
async fn change_password(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    current: SecretBytes,
    new: SecretBytes,
) -> Result<Done, Error> {
    let context = LoginContext { peer: request.origin.peer, now: request.at };
    let who = &request.session.principal;
    let (login, change) = users(unsealed)?.change_password(who, current, new, &context).await?;
    let sessions = Which::Principal(who.to_string().into());
    let (with, ending) = unsealed.tokens.ending(sessions, core.clock.now()).await?;
    let (token, session) = unsealed.tokens.mint(&login, ending.after())?;
    change.commit(with, Some(request.id())).await?;
    Ok(Done::and(Ok(Answer::Token(token, session)), Memo::SessionsEnd(ending)))
}

/// In one batch with the end of the user's sessions: a crash leaves nobody who is gone with a session.
async fn change_user(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    name: &str,
    change: UserChange,
) -> Result<Memo, Error> {
    let sessions = Which::Principal(users::principal(name).into());
    // The time is taken now, while no login is accepted: all that were began before.
    let (with, ending) = unsealed.tokens.ending(sessions, core.clock.now()).await?;
    change.commit(with, Some(request.id())).await?;
    Ok(Memo::SessionsEnd(ending))
}

async fn policy(
    unsealed: &Unsealed,
    request: &RequestContext,
    action: PolicyAction,
) -> Result<Answer, Error> {
    match action {
        PolicyAction::Apply { yaml, remove, dry_run, force } => {
            let documents = Documents::parse(&yaml).map_err(Error::InvalidMany)?;
            let plan = plan(&unsealed.policy.documents(), documents, &remove).map_err(Error::InvalidMany)?;
            if !force && plan.locks_out(&unsealed.policy.current()) {
                return Err(Invalid::new("policy", LOCKED_OUT).into());
            }
            let changes = plan.changes().to_vec();
            if !dry_run {
                unsealed.policy.apply(plan, Some(request.id())).await?;
            }
            Ok(Answer::Applied(changes))
        }
        PolicyAction::Export => Ok(Answer::Policy(unsealed.policy.documents().to_yaml())),
        PolicyAction::CanI(question) => Ok(can_i(unsealed, request, &question)),
        PolicyAction::WhoCan { verb, path } => {
            Ok(Answer::WhoCan(unsealed.policy.current().who_can(verb, &path)))
        }
    }
}

async fn sys(
    core: &Core,
    unsealed: &Unsealed,
    request: &RequestContext,
    action: SysAction,
) -> Result<Answer, Error> {
    match action {
        SysAction::Seal => core.seal().await.map(|()| Answer::Done),
        SysAction::Rotate => core.rotate(request.id()).await.map(Answer::Term),
        SysAction::Rekey { seal, current_shares } => {
            core.rekey(seal, &current_shares, request.id()).await.map(Answer::Shares)
        }
        SysAction::ConfirmRekey(shares) => {
            core.confirm_rekey(&shares, request.id()).await.map(|()| Answer::Done)
        }
        SysAction::Scrub => Ok(Answer::Scrub(unsealed.barrier.scrub().await?)),
        SysAction::Mount { name, kind, description, settings } => {
            let mounts = &unsealed.mounts;
            mounts.mount(&name, &kind, &description, settings, core.clock.now(), request.id()).await?;
            Ok(Answer::Done)
        }
        SysAction::Unmount { name, destroy_data } => {
            lease::check_none_left(unsealed, &name)?;
            match destroy_data {
                true => unsealed.mounts.destroy(&name, request.id()).await?,
                false => unsealed.mounts.unmount(&name, request.id()).await?,
            }
            Ok(Answer::Done)
        }
        SysAction::Tune { name, description, settings } => {
            unsealed.mounts.tune(&name, description.as_deref(), settings, request.id()).await?;
            Ok(Answer::Done)
        }
        SysAction::ListMounts => Ok(Answer::Mounts(unsealed.mounts.list())),
    }
}

fn audit(
    core: &Arc<Core>,
    unsealed: &Arc<Unsealed>,
    request: &RequestContext,
    action: AuditAction,
    (permit, needs): (Permit, Needs),
) -> Result<Answer, Error> {
    let scope = permit.scope().clone();
    let lines = match action {
        AuditAction::Tail { last, follow } => core.audit.reader().tail(last, follow)?,
        AuditAction::Query { filter, limit } => core.audit.reader().query(filter, limit)?,
        AuditAction::Hash { path, field, value } => {
            let hash = unsealed.redactor.hash(path.as_str(), &field, value.expose());
            return Ok(Answer::Hash(hash.as_str().to_owned()));
        }
    };
    let lines = long_stream::lines(lines);
    Ok(Answer::Lines(long_stream::while_valid(core, unsealed, request, scope, needs, lines)))
}
