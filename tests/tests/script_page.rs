//! The page of `xmpp-script --html` in a browser: it renders, the diagram shows each stanza, and a
//! failed step is seen without scrolling or opening anything.
//!
//! Needs Chromium (`apt install chromium`) and so is not part of `cargo test`:
//! `cargo test -p xmpp-testkit --features interop --test script_page`. The picture is left in
//! target/tmp/script-page.png for people.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As the page is first seen.
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 900;

/// Good, wrong in a value, and pending.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "good.scs",
        "# All is well\n[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: secret\n\
         Romeo connects\nRomeo sends:\n\t<presence/>\nRomeo receives:\n\t<presence/>\n",
    ),
    (
        "wrong.scs",
        "# Juliet hears something else\n[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: a\n\
         [Client] Juliet\n\tjid: juliet@localhost/balcony\n\tpassword: b\n\
         Romeo connects\nJuliet connects\nJuliet sends:\n\t<presence/>\nJuliet receives:\n\t<presence/>\n\
         Romeo sends:\n\t<message to='juliet@localhost/balcony' type='chat'><body>Good &lt;evening&gt;</body></message>\n\
         Juliet receives:\n\t<message type='chat'><body>Good morning</body></message>\n",
    ),
    (
        "pending.scs",
        "# Not yet\n## pending: later\n[Client] Romeo\n\tjid: romeo@localhost\n\tpassword: secret\n\
         Romeo connects\nRomeo receives within 10ms:\n\t<presence/>\n",
    ),
];

/// Runs in the page, after it is laid out, and says where things are.
const MEASURE: &str = "
<pre id='measured'></pre><script>
const at = e => { const r = e.getBoundingClientRect();
    return { text: e.innerText, top: r.top, bottom: r.bottom, left: r.left, right: r.right,
             color: getComputedStyle(e).backgroundColor }; };
const all = (root, what) => [...root.querySelectorAll(what)].map(at);
const scripts = [...document.querySelectorAll('body > details')].map(d => ({
    word: d.className, open: d.open, name: d.querySelector('summary code').innerText,
    lanes: all(d, '.lane'), sent: all(d, '.sent'), received: all(d, '.received'),
    unexpected: all(d, '.unexpected'), failure: all(d, '.failure'), differs: all(d, 'tr.differs'),
    here: all(d, '.here') }));
document.getElementById('measured').textContent = JSON.stringify({ title: document.title,
    heading: all(document, 'h1'), height: innerHeight, width: innerWidth,
    wide: document.documentElement.scrollWidth, scripts });
</script>";

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script-page");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn browser() -> &'static str {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    names
        .iter()
        .find(is_there)
        .expect("Chromium is installed (apt install chromium)")
}

/// What the browser prints.
fn browse(arguments: &[&str], page: &Path) -> String {
    let profile = folder().join("profile");
    let run = Command::new(browser())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={WIDTH},{HEIGHT}"))
        .args(["--virtual-time-budget=2000", "--timeout=20000"])
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    String::from_utf8(run.stdout).expect("text")
}

fn page() -> PathBuf {
    let folder = folder();
    for (name, text) in SCRIPTS {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let page = folder.join("report.html");
    let run = Command::new(env!("CARGO_BIN_EXE_xmpp-script"))
        .args(SCRIPTS.map(|(name, _)| folder.join(name)))
        .args(["--patience", "300ms", "--html"])
        .arg(&page)
        .output()
        .expect("the command runs");
    assert_eq!(run.status.code(), Some(1));
    page
}

fn measured(page: &Path) -> Value {
    let text = std::fs::read_to_string(page).expect("the page");
    let copy = page.with_file_name("measured.html");
    std::fs::write(&copy, text.replace("</body>", &format!("{MEASURE}</body>"))).expect("a file");
    let shown = browse(&["--dump-dom"], &copy);
    let found = shown.split("<pre id=\"measured\">").nth(1);
    let found = found
        .and_then(|rest| rest.split("</pre>").next())
        .expect("the measures");
    let json = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    serde_json::from_str(&json).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// It has a place, in the part of the page that is seen first.
fn is_seen(value: &Value) -> bool {
    let is_large = number(&value["bottom"]) - number(&value["top"]) > 5.0
        && number(&value["right"]) - number(&value["left"]) > 20.0;
    is_large && number(&value["top"]) >= 0.0 && number(&value["bottom"]) <= f64::from(HEIGHT)
}

#[test]
fn a_failed_step_is_found_at_one_glance() {
    let page = page();
    let measured = measured(&page);
    assert_eq!(text(&measured["title"]), "1 of 3 scripts failed");
    assert_eq!(text(&measured["heading"][0]["text"]), "1 not as expected");
    assert!(
        number(&measured["wide"]) <= number(&measured["width"]),
        "no scrolling sideways"
    );
    let scripts = measured["scripts"].as_array().expect("scripts");
    let words: Vec<&str> = scripts.iter().map(|script| text(&script["word"])).collect();
    assert_eq!(
        words,
        ["failed", "pending", "passed"],
        "what needs a look comes first"
    );
    let opens: Vec<bool> = scripts
        .iter()
        .map(|script| script["open"] == true)
        .collect();
    assert_eq!(opens, [true, false, false], "and is open");

    let wrong = &scripts[0];
    for what in ["failure", "differs", "here", "unexpected"] {
        assert!(
            wrong[what].as_array().is_some_and(|all| !all.is_empty()),
            "{what}"
        );
        for one in wrong[what].as_array().expect("some") {
            assert!(is_seen(one), "{what} is not seen: {one}");
        }
    }
    let differs = text(&wrong["differs"][0]["text"]);
    assert!(
        differs.contains("Good morning") && differs.contains("Good &lt;evening>"),
        "{differs}"
    );
    let quiet = &wrong["received"][0]["color"];
    assert_ne!(
        &wrong["unexpected"][0]["color"], quiet,
        "it has a colour of its own"
    );

    // the diagram: a lane for each, an arrow for each stanza, from the server's lane to its own
    let lanes: Vec<&str> = wrong["lanes"]
        .as_array()
        .expect("lanes")
        .iter()
        .map(|lane| text(&lane["text"]))
        .collect();
    assert_eq!(lanes, ["line", "server", "Romeo", "Juliet"]);
    let juliet = &wrong["lanes"][3];
    let got = &wrong["unexpected"][0];
    assert!(text(&got["text"]).contains("<message"), "{got}");
    assert!(
        number(&got["right"]) > number(&juliet["left"]),
        "it reaches her lane: {got}"
    );
    let shown = |what: &str| wrong[what].as_array().map_or(0, Vec::len);
    assert_eq!(
        (shown("sent"), shown("received"), shown("unexpected")),
        (2, 1, 1)
    );

    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script-page.png");
    let _ = std::fs::remove_file(&picture);
    browse(&[&format!("--screenshot={}", picture.display())], &page);
    let size = std::fs::metadata(&picture).expect("a picture").len();
    assert!(size > 10_000, "the picture is empty");
    std::fs::remove_dir_all(folder()).expect("our folder");
}
