//! What the servers under test are told: configurations, a module for Prosody, a program for ejabberd.

use super::peer::{ASSIGNING_DOMAIN, CONTACT, DOMAIN, FORM_DOMAIN, OPERATOR, Ports};
use super::process::Folder;

/// A module for Prosody: who registers gets another name than the one wished for.
pub(crate) const ASSIGNED_NAMES: &str = r#"
local st = require "util.stanza";
local users = require "core.usermanager";

module:hook("stanza/iq/jabber:iq:register:query", function (event)
    local session, stanza = event.origin, event.stanza;
    if session.type ~= "c2s_unauthed" or stanza.attr.type ~= "set" then return; end
    local form = stanza.tags[1]:get_child("x", "jabber:x:data");
    local given, password;
    for field in form:childtags("field") do
        if field.attr.var == "username" then given = field:get_child_text("value").."-given"; end
        if field.attr.var == "password" then password = field:get_child_text("value"); end
    end
    assert(users.create_user(given, password, module.host));
    session.send(st.reply(stanza):query("jabber:iq:register"):text_tag("username", given));
    return true;
end, 10);
"#;

/// A program for ejabberd that shows a word in a picture: the picture is empty, the word in a file.
pub(crate) fn captcha_script(folder: &Folder) -> String {
    format!(
        "#!/bin/sh\necho \"$1\" > {}/captcha-shown\nprintf '\\211PNG\\r\\n\\032\\n'\n",
        folder.show()
    )
}

/// Prosody's.
pub(crate) fn prosody(folder: &Folder, ports: &Ports) -> String {
    let ssl = format!(
        "{{ key = \"{0}/key.pem\", certificate = \"{0}/chain.pem\" }}",
        folder.show()
    );
    format!(
        r#"
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/spool"
certificates = "{folder}"
daemonize = false
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{folder}/prosody.log" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {starttls} }}
c2s_direct_tls_ports = {{ {tls} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ {https} }}
https_ssl = {ssl}
ssl = {ssl}
modules_enabled = {{
    "roster", "saslauth", "tls", "disco", "carbons", "pep", "blocklist", "bookmarks",
    "vcard_legacy", "version", "time", "ping", "register", "mam", "csi_simple", "smacks", "private",
    "offline", "uptime", "admin_adhoc", "lastactivity", "server_contact_info"
}}
admins = {{ "{OPERATOR}@{DOMAIN}" }}
{CONTACT}
plugin_paths = {{ "{folder}" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_hashed"
allow_registration = true
c2s_require_encryption = true

VirtualHost "{DOMAIN}"

VirtualHost "{FORM_DOMAIN}"
    additional_registration_fields = {{ "email+", "nick" }}

VirtualHost "{ASSIGNING_DOMAIN}"
    modules_enabled = {{ "assigned_names" }}

Component "conference.localhost" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_log_by_default = true

Component "pubsub.localhost" "pubsub"
    autocreate_on_publish = true
    default_admin_affiliation = "owner"
    expose_publisher = true

Component "upload.localhost" "http_file_share"
    http_file_share_size_limit = 1024 * 1024
"#,
        folder = folder.show(),
        starttls = ports.starttls.port(),
        tls = ports.tls.port(),
        https = ports.https.port(),
    )
}

/// ejabberd's.
pub(crate) fn ejabberd(folder: &Folder, ports: &Ports) -> String {
    format!(
        r#"
hosts: [{DOMAIN}, {FORM_DOMAIN}]
acl: {{operators: {{user: {OPERATOR}@{DOMAIN}}}}}
access_rules: {{configure: {{allow: operators}}}}
captcha_cmd: "{folder}/captcha"
captcha_url: "https://{DOMAIN}/captcha"
captcha_limit: infinity
loglevel: debug
log_rotate_size: infinity
certfiles: ["{folder}/both.pem"]
listen:
  - port: {starttls}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls_required: true
    max_stanza_size: 262144
  - port: {tls}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    tls: true
    max_stanza_size: 262144
auth_method: internal
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_adhoc: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_configure: {{}}
  mod_disco:
    server_info: [{{modules: all, name: abuse-addresses, urls: ["mailto:abuse@localhost"]}}]
  mod_http_upload:
    access: all
    put_url: "https://@HOST@:{https}/upload"
    docroot: "{folder}/upload"
    max_size: 1048576
  mod_last: {{}}
  mod_time: {{}}
  mod_mam: {{default: always, assume_mam_usage: true}}
  mod_muc:
    access: all
    access_create: all
    access_persistent: all
    default_room_options: {{mam: true}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub:
    access_createnode: all
    plugins: [flat, pep]
    max_items_node: 1000
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{search: true}}
  mod_version: {{}}
append_host_config:
  {DOMAIN}:
    modules:
      mod_register: {{access: all, ip_access: all}}
  {FORM_DOMAIN}:
    modules:
      mod_register: {{access: all, ip_access: all, captcha_protected: true}}
"#,
        folder = folder.show(),
        starttls = ports.starttls.port(),
        tls = ports.tls.port(),
        https = ports.https.port(),
    )
}

/// That of a process of our own server.
pub(crate) fn ours(folder: &Folder, ports: &Ports) -> String {
    format!(
        r#"
data_dir = "{folder}/spool"

[[domain]]
name = "{DOMAIN}"
certificate = "{folder}/chain.pem"
key = "{folder}/key.pem"
registration = "open"

[c2s]
listen = ["{starttls}"]
listen_tls = ["{tls}"]

[s2s]
enabled = false
"#,
        folder = folder.show(),
        starttls = ports.starttls,
        tls = ports.tls,
    )
}
