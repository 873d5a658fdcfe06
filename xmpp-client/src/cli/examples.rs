//! Examples that stand below the help of each command word; a test of args.rs takes them for usage.

pub(super) const SEND: &str = "\
Examples:
  xmpp-client --jid alice@example.org send bob@example.org 'Hello, Bob'
  xmpp-client --jid alice@example.org send bob@example.org - < letter.txt
  xmpp-client --jid alice@example.org send --type headline --subject Backup bob@example.org done";

pub(super) const LISTEN: &str = "\
Examples:
  xmpp-client --jid alice@example.org listen
  xmpp-client --jid bot@example.org --password-stdin listen --json --messages < password | jq .body
  xmpp-client --jid alice@example.org listen --messages --count 1";

pub(super) const ROSTER: &str = "\
Examples:
  xmpp-client --jid alice@example.org roster
  xmpp-client --jid alice@example.org roster add bob@example.org 'Bob B.' --group Friends --group Work
  xmpp-client --jid alice@example.org roster add bob@example.org --no-groups
  xmpp-client --jid alice@example.org roster remove bob@example.org";

pub(super) const PRESENCE: &str = "\
Examples:
  xmpp-client --jid alice@example.org presence
  xmpp-client --jid alice@example.org presence --subscribe bob@example.org
  xmpp-client --jid bob@example.org presence --approve alice@example.org";

pub(super) const PING: &str = "\
Examples:
  xmpp-client --jid alice@example.org ping
  xmpp-client --jid alice@example.org --cert alice.pem --key alice.key ping
  xmpp-client --jid alice@example.org ping example.net
  xmpp-client --jid alice@localhost --ca xmpp-data/ca/ca.pem ping";

pub(super) const DISCO: &str = "\
Examples:
  xmpp-client --jid alice@example.org disco example.org
  xmpp-client --jid alice@example.org disco --json conference.example.org
  xmpp-client --jid alice@example.org disco --node menu bot.example.org";

pub(super) const HISTORY: &str = "\
Examples:
  xmpp-client --jid alice@example.org history --limit 10
  xmpp-client --jid alice@example.org history --with bob@example.org
  xmpp-client --jid alice@example.org history --export --json > archive.jsonl";

pub(super) const MUC: &str = "\
Examples:
  xmpp-client --jid alice@example.org muc room@conference.example.org
  xmpp-client --jid bot@example.org --password-stdin muc room@conference.example.org --nick bot < lines";

pub(super) const REGISTER: &str = "\
Examples:
  xmpp-client --jid alice@example.org register
  xmpp-client --jid alice@example.org register --field email=alice@example.net
  xmpp-client --jid bot@example.org --password-stdin register < password";

pub(super) const PASSWD: &str = "\
Examples:
  xmpp-client --jid alice@example.org passwd
  xmpp-client --jid bot@example.org --password-stdin passwd < old-and-new";

pub(super) const RAW: &str = "\
Examples:
  xmpp-client --jid alice@example.org raw --wait 1 < stanzas
  xmpp-client --jid alice@example.org raw < stanzas";
