//! What the servers of two domains are told, so that each finds the other on the loopback interface
//! and believes it by certificate or by dialback. docs/FEDERATION.md shows them filled in.

use super::world::{Asked, At, Make, Options, Proof};
use crate::process::{self, Folder};
use std::net::SocketAddr;
use std::process::Command;

/// Our own server's.
pub(super) fn ours(
    folder: &Folder,
    at: &At,
    (proof, options): (Proof, Options<'_>),
    theirs: &At,
) -> String {
    let dialback = if proof.may_dial_back() {
        "tls"
    } else {
        "never"
    };
    let ca = match proof {
        Proof::Dialback => String::new(),
        _ => format!("{:?}", folder.path.join("ca.pem")),
    };
    let (listen_tls, place) = match options.direct_tls {
        true => {
            let address = theirs.ways.direct_tls.address;
            let place = format!("{{ addr = \"{address}\", direct_tls = true }}");
            (format!("\"{}\"", at.s2s_tls), place)
        }
        false => {
            let address = theirs.ways.starttls.address;
            (String::new(), format!("\"{address}\""))
        }
    };
    let override_of = |name: &str| format!("{name:?} = {place}\n");
    let overrides: String = theirs
        .names()
        .iter()
        .map(|name| override_of(name))
        .collect();
    format!(
        r#"
data_dir = "{folder}/spool"

[[domain]]
name = "{domain}"
certificate = "{folder}/chain.pem"
key = "{folder}/key.pem"
registration = "open"

[c2s]
listen = ["{c2s}"]
listen_tls = []

[s2s]
listen = ["{s2s}"]
listen_tls = [{listen_tls}]
dialback = "{dialback}"
ca = [{ca}]

[dns.override]
{overrides}"#,
        folder = folder.show(),
        domain = at.domain,
        c2s = at.c2s,
        s2s = at.s2s,
    )
}

/// The other server's program, with its configuration in the folder.
pub(super) fn theirs(
    make: Make,
    folder: &Folder,
    at: &At,
    how: (Proof, Options<'_>),
    asked: Asked<'_>,
) -> Command {
    let command = match make {
        Make::Prosody => {
            folder.write("mod_lab_names.lua", LAB_NAMES);
            let config = prosody(folder, at, how, &asked);
            process::prosody(&folder.write("prosody.cfg.lua", &config))
        }
        Make::Ejabberd => {
            let config = folder.write("ejabberd.yml", &ejabberd(folder, at, how));
            let mut command = process::ejabberd(folder, &config);
            if let Asked::At(names) = asked {
                command.env("ERL_INETRC", folder.write("inetrc", &inetrc(names)));
            }
            command
        }
    };
    match asked {
        Asked::At(_) => command,
        Asked::Resolver(file) => process::asking(file, &command),
    }
}

/// Prosody's.
fn prosody(
    folder: &Folder,
    at: &At,
    (proof, options): (Proof, Options<'_>),
    asked: &Asked<'_>,
) -> String {
    let (module, dns) = match asked {
        Asked::At(names) => (", \"lab_names\"", names.port()),
        Asked::Resolver(_) => ("", 0),
    };
    let more = options.modules.iter().map(|name| format!(", {name:?}"));
    let more: String = more.collect();
    let direct_tls = match options.direct_tls {
        true => format!("s2s_direct_tls_ports = {{ {} }}", at.s2s_tls.port()),
        false => String::new(),
    };
    let (secure, dialback) = match proof.may_dial_back() {
        true => (false, ", \"dialback\""),
        false => (true, ""),
    };
    let ca = match proof {
        Proof::Dialback => String::new(),
        _ => format!("cafile = \"{}/ca.pem\";", folder.show()),
    };
    format!(
        r#"
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/spool"
plugin_paths = {{ "{folder}" }}
daemonize = false
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{folder}/prosody.log" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s} }}
s2s_ports = {{ {s2s} }}
{direct_tls}
ssl = {{ key = "{folder}/key.pem"; certificate = "{folder}/chain.pem"; {ca} }}
modules_enabled = {{
    "roster", "saslauth", "tls", "disco", "vcard_legacy", "pep", "ping", "register"{module}{dialback}{more}
}}
lab_names_port = {dns}
authentication = "internal_hashed"
allow_registration = true
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = {secure}

VirtualHost "{domain}"

Component "{rooms}" "muc"
"#,
        folder = folder.show(),
        c2s = at.c2s.port(),
        s2s = at.s2s.port(),
        domain = at.domain,
        rooms = at.rooms(),
    )
}

/// A module for Prosody: names are asked for at a port of this machine. By itself Prosody asks port 53
/// of what /etc/resolv.conf says.
const LAB_NAMES: &str = r#"
module:set_global();
local adns = require "net.adns";
local port = module:get_option_number("lab_names_port");
local new = adns.resolver;

function adns.resolver()
    local resolver = new();
    resolver._resolver.server = { "127.0.0.1" };
    resolver._resolver:socket_wrapper_set(function (...)
        local handler, err = adns.new_async_socket(...);
        if not handler then return nil, err; end
        local set = handler.setpeername;
        handler.setpeername = function (_, address) return set(_, address, port); end
        return handler;
    end);
    return resolver;
end
"#;

/// ejabberd's.
fn ejabberd(folder: &Folder, at: &At, (proof, options): (Proof, Options<'_>)) -> String {
    let direct_tls = match options.direct_tls {
        true => format!(
            "  - port: {}\n    ip: \"127.0.0.1\"\n    module: ejabberd_s2s_in\n    tls: true\n",
            at.s2s_tls.port()
        ),
        false => String::new(),
    };
    let dialback = match proof.may_dial_back() {
        true => "  mod_s2s_dialback: {}\n",
        false => "",
    };
    let ca = match proof {
        Proof::Dialback => String::new(),
        _ => format!(
            "ca_file: {0}/ca.pem\ns2s_cafile: {0}/ca.pem\n",
            folder.show()
        ),
    };
    format!(
        r#"
hosts: [{domain}]
loglevel: debug
log_rotate_size: infinity
certfiles: ["{folder}/both.pem"]
{ca}s2s_use_starttls: required
outgoing_s2s_families: [ipv4]
listen:
  - port: {c2s}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls_required: true
  - port: {s2s}
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
{direct_tls}auth_method: internal
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_disco: {{}}
  mod_last: {{}}
  mod_muc:
    host: {rooms}
    access: all
    access_create: all
  mod_offline: {{}}
  mod_ping: {{}}
  mod_register: {{access: all, ip_access: all}}
  mod_roster: {{}}
  mod_vcard: {{}}
{dialback}"#,
        folder = folder.show(),
        domain = at.domain,
        rooms = at.rooms(),
        c2s = at.c2s.port(),
        s2s = at.s2s.port(),
    )
}

/// Whom the Erlang system of ejabberd asks for names. The last line is the last: reading another
/// resolv.conf forgets what was said of name servers before.
fn inetrc(dns: SocketAddr) -> String {
    let port = dns.port();
    format!(
        "{{resolv_conf, \"\"}}.\n{{hosts_file, \"\"}}.\n{{lookup, [dns]}}.\n\
         {{nameserver, {{127,0,0,1}}, {port}}}.\n"
    )
}
