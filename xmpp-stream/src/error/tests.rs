//! Conditions and their wire forms.

use super::*;

#[test]
fn c6120_stanza_error_child_for_each_condition() {
    for &condition in StanzaCondition::ALL {
        let error = StanzaError::from(condition);
        let element = error.to_element();
        assert_eq!(element.attr("type"), Some(condition.usual_type().as_str()));
        let conditions: Vec<_> = element.children().map(|c| (c.ns(), c.name())).collect();
        assert_eq!(conditions, [(ns::STANZAS, condition.as_str())]);
        assert_eq!(StanzaError::from_element(&element), error);
    }
}

#[test]
fn stanza_error_keeps_text_and_application_condition() {
    let app = Element::new(ns::ERRORS, "resource-limit-exceeded");
    let error = StanzaError::resource_constraint()
        .with_text("full")
        .with_app(app);
    let xml = error.to_element().to_xml(ns::CLIENT);
    assert_eq!(
        xml,
        "<error type='wait'>\
         <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>full</text>\
         <resource-limit-exceeded xmlns='urn:xmpp:errors'/></error>"
    );
    assert_eq!(StanzaError::from_element(&error.to_element()), error);
    assert_eq!(error.to_string(), "resource-constraint: full (type wait)");
}

#[test]
fn c6120_st_20_unknown_conditions_are_undefined() {
    let unknown =
        Element::new(ns::STREAMS, "error").with_child(Element::new(ns::STREAM_ERRORS, "brand-new"));
    let read = StreamError::from_element(&unknown);
    assert_eq!(read.condition, StreamCondition::UndefinedCondition);
    let unknown = Element::new(ns::CLIENT, "error")
        .with_attr("type", "brand-new")
        .with_child(Element::new(ns::STANZAS, "brand-new"));
    let read = StanzaError::from_element(&unknown);
    assert_eq!(
        read,
        StanzaError::new(ErrorType::Cancel, StanzaCondition::UndefinedCondition)
    );
    let old = Element::new(ns::STREAMS, "error")
        .with_child(Element::new(ns::STREAM_ERRORS, "xml-not-well-formed"));
    assert_eq!(
        StreamError::from_element(&old).condition,
        StreamCondition::NotWellFormed
    );
}

#[test]
fn c6120_stream_error_generate_each_condition() {
    for &condition in StreamCondition::ALL {
        let error = StreamError::new(condition).with_text("a < b");
        let xml = error.to_xml();
        assert_eq!(
            xml,
            format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b</text>\
                 </stream:error>"
            )
        );
        assert_eq!(StreamError::from_element(&error.to_element()), error);
        assert_eq!(
            StreamCondition::from_wire(condition.as_str()),
            Some(condition)
        );
    }
}

#[test]
fn c6120_st_21_a_redirection_says_where_to() {
    let mut error = StreamError::new(StreamCondition::SeeOtherHost);
    error.other_host = Some("[2001:db8::1]:9222".into());
    assert_eq!(
        error.to_xml(),
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\
         [2001:db8::1]:9222</see-other-host></stream:error>"
    );
    assert_eq!(StreamError::from_element(&error.to_element()), error);
}
