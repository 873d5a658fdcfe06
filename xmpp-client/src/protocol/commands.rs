//! Ad-hoc commands (XEP-0050): what an entity offers, and running one stage by stage.

use super::XmppProtocol;
use crate::ext::{self, RequestError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::disco::Item;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::xml::Element;

/// What to do with a command next (section 2.4.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// What the stage says is the usual thing to do.
    Execute,
    /// The next stage.
    Next,
    /// The stage before.
    Prev,
    /// The end, done.
    Complete,
    /// The end, not done.
    Cancel,
}

impl Action {
    const ALL: [(Self, &str); 5] = [
        (Self::Execute, "execute"),
        (Self::Next, "next"),
        (Self::Prev, "prev"),
        (Self::Complete, "complete"),
        (Self::Cancel, "cancel"),
    ];

    fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(action, _)| *action == self);
        named.map_or("execute", |(_, name)| name)
    }

    fn of(name: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(_, other)| *other == name);
        named.map(|(action, _)| *action)
    }
}

/// How far a command is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CommandStatus {
    /// Waits for us.
    Executing,
    /// Done.
    Completed,
    /// Given up.
    Canceled,
}

/// A remark to what was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandNote {
    /// `info`, `warn` or `error`.
    pub ty: String,
    /// The remark.
    pub text: String,
}

/// What a stage of a command answers.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandReply {
    /// How far it is.
    pub status: CommandStatus,
    /// What may be done next, besides `Cancel` and `Execute`, which always may.
    pub actions: Vec<Action>,
    /// What `Execute` means here.
    pub default: Option<Action>,
    /// Questions or results.
    pub form: Option<Form>,
    /// Remarks.
    pub notes: Vec<CommandNote>,
    /// All of it.
    pub payload: Element,
}

/// A command that is being run.
#[derive(Clone, Debug)]
pub struct Command {
    im: XmppProtocol,
    of: Jid,
    node: String,
    session: Option<String>,
    /// What it answered last.
    pub reply: CommandReply,
}

impl XmppProtocol {
    /// The commands that an entity offers: each item's node is what `execute` takes.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn commands(&self, of: &Jid) -> Result<Vec<Item>, RequestError> {
        self.disco_items(of, Some(ns::COMMANDS)).await
    }

    /// Begins a command.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn execute(&self, of: &Jid, node: &str) -> Result<Command, RequestError> {
        let (reply, session) = self.run(of, node, None, Action::Execute, None).await?;
        Ok(Command {
            im: self.clone(),
            of: of.clone(),
            node: node.into(),
            session,
            reply,
        })
    }

    async fn run(
        &self,
        of: &Jid,
        node: &str,
        session: Option<&str>,
        action: Action,
        form: Option<&Form>,
    ) -> Result<(CommandReply, Option<String>), RequestError> {
        let mut command = Element::new(ns::COMMANDS, "command")
            .with_attr("node", node)
            .with_attr("action", action.as_str());
        if let Some(session) = session {
            command.set_attr("sessionid", session);
        }
        if let Some(form) = form {
            command.push(form.to_element());
        }
        let answer = ext::set(self.client(), Some(of), &command).await?;
        let answer = ext::expect(answer, ns::COMMANDS, "command")?;
        read(answer).ok_or(RequestError::Malformed("it has no status"))
    }
}

impl Command {
    /// True while it waits for us.
    #[must_use]
    pub fn is_executing(&self) -> bool {
        self.reply.status == CommandStatus::Executing
    }

    /// Answers this stage, with the form filled in where there is one (`Form::answer`).
    ///
    /// # Errors
    /// The request failed, or the answer is another; the stage is as before.
    pub async fn act(&mut self, action: Action, form: Option<&Form>) -> Result<(), RequestError> {
        let Self {
            im,
            of,
            node,
            session,
            ..
        } = &*self;
        let (reply, session) = im.run(of, node, session.as_deref(), action, form).await?;
        self.reply = reply;
        if session.is_some() {
            self.session = session;
        }
        Ok(())
    }

    /// Goes on to the next stage.
    ///
    /// # Errors
    /// As `act`.
    pub async fn next(&mut self, form: Option<&Form>) -> Result<(), RequestError> {
        self.act(Action::Next, form).await
    }

    /// Goes back to the stage before.
    ///
    /// # Errors
    /// As `act`.
    pub async fn prev(&mut self) -> Result<(), RequestError> {
        self.act(Action::Prev, None).await
    }

    /// Completes it.
    ///
    /// # Errors
    /// As `act`.
    pub async fn complete(&mut self, form: Option<&Form>) -> Result<(), RequestError> {
        self.act(Action::Complete, form).await
    }

    /// Gives it up.
    ///
    /// # Errors
    /// As `act`.
    pub async fn cancel(&mut self) -> Result<(), RequestError> {
        self.act(Action::Cancel, None).await
    }
}

fn read(command: Element) -> Option<(CommandReply, Option<String>)> {
    let status = match command.attr("status")? {
        "executing" => CommandStatus::Executing,
        "completed" => CommandStatus::Completed,
        "canceled" => CommandStatus::Canceled,
        _ => return None,
    };
    let actions = command.child(ns::COMMANDS, "actions");
    let default = actions.and_then(|actions| Action::of(actions.attr("execute")?));
    let actions = actions.into_iter().flat_map(Element::children);
    let actions = actions
        .filter_map(|action| Action::of(action.name()))
        .collect();
    let notes = command
        .children()
        .filter(|note| note.is(ns::COMMANDS, "note"));
    let notes = notes.map(|note| CommandNote {
        ty: note.attr("type").unwrap_or("info").into(),
        text: note.text(),
    });
    let session = command.attr("sessionid").map(Into::into);
    let reply = CommandReply {
        status,
        actions,
        default,
        form: Form::find(&command),
        notes: notes.collect(),
        payload: command,
    };
    Some((reply, session))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(xml: &str) -> Option<(CommandReply, Option<String>)> {
        read(Element::parse(xml.as_bytes(), "").unwrap())
    }

    #[test]
    fn xep0050_a_stage_says_what_may_be_done_next() {
        let (stage, session) = reply(
            "<command xmlns='http://jabber.org/protocol/commands' sessionid='s' node='n' \
             status='executing'><actions execute='complete'><prev/><complete/><dance/></actions>\
             <x xmlns='jabber:x:data' type='form'/><note type='warn'>w</note><note>i</note></command>",
        )
        .unwrap();
        assert_eq!(session.as_deref(), Some("s"));
        assert_eq!(stage.status, CommandStatus::Executing);
        assert_eq!(stage.actions, [Action::Prev, Action::Complete]);
        assert_eq!(stage.default, Some(Action::Complete));
        assert!(stage.form.is_some());
        let notes: Vec<_> = stage.notes.iter().map(|note| note.ty.as_str()).collect();
        assert_eq!(notes, ["warn", "info"]);
    }

    #[test]
    fn xep0050_what_has_no_status_is_no_stage() {
        for status in ["", " status='dancing'"] {
            let xml = format!("<command xmlns='http://jabber.org/protocol/commands'{status}/>");
            assert!(reply(&xml).is_none(), "{status}");
        }
    }
}
