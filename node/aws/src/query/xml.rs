use serde_json::Value;

use super::namespace;
use crate::{ErrorCode, Operation, Service};

/// Media type of every reply.
pub const CONTENT_TYPE: &str = "text/xml";

/// The reply to a call that succeeded. Absent members are not written; lists hold `<member>` elements.
pub fn reply<O: Operation>(output: &O::Output, request_id: &str) -> String {
    let result = serde_json::to_value(output).expect("shapes have string keys only and their Serialize does not fail");
    let mut xml = String::with_capacity(512);
    xml.push_str(&format!("<{0}Response xmlns=\"{1}\"><{0}Result>", O::NAME, namespace(O::SERVICE)));
    write_value(&mut xml, &result);
    xml.push_str(&format!("</{}Result><ResponseMetadata>", O::NAME));
    element(&mut xml, "RequestId", request_id);
    xml.push_str(&format!("</ResponseMetadata></{}Response>", O::NAME));
    xml
}

/// The reply to a call that failed. `Sender` or `Receiver` says whose fault it is.
pub fn error(service: Service, code: ErrorCode, message: &str, request_id: &str) -> String {
    let fault = if code.status().is_server_error() { "Receiver" } else { "Sender" };
    let mut xml = format!("<ErrorResponse xmlns=\"{}\"><Error>", namespace(service));
    element(&mut xml, "Type", fault);
    element(&mut xml, "Code", code.query_code());
    element(&mut xml, "Message", message);
    xml.push_str("</Error>");
    element(&mut xml, "RequestId", request_id);
    xml.push_str("</ErrorResponse>");
    xml
}

fn element(xml: &mut String, name: &str, text: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    escape(xml, text);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

/// Names come from our shapes, never from input; texts may hold anything.
fn write_value(xml: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => xml.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => xml.push_str(&number.to_string()),
        Value::String(text) => escape(xml, text),
        Value::Array(items) => items.iter().for_each(|item| nested(xml, "member", item)),
        Value::Object(members) => {
            members.iter().filter(|(_, member)| !member.is_null()).for_each(|(name, member)| nested(xml, name, member));
        }
    }
}

fn nested(xml: &mut String, name: &str, value: &Value) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    write_value(xml, value);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

fn escape(xml: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            // A parser would fold a bare carriage return into a newline.
            '\r' => xml.push_str("&#xD;"),
            '\n' | '\t' => xml.push(c),
            // XML 1.0 has no form for the other control characters, not even escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sts::{GetCallerIdentity, GetCallerIdentityOutput};

    #[test]
    fn the_reply_is_what_the_clients_parse() {
        let output = GetCallerIdentityOutput {
            arn: "arn:aws:iam::000000000000:root".into(),
            user_id: "000000000000".into(),
            account: "000000000000".into(),
        };
        assert_eq!(
            reply::<GetCallerIdentity>(&output, "12345678-9abc-def0-1234-56789abcdef0"),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Account>000000000000</Account><Arn>arn:aws:iam::000000000000:root</Arn><UserId>000000000000</UserId>\
             </GetCallerIdentityResult><ResponseMetadata><RequestId>12345678-9abc-def0-1234-56789abcdef0</RequestId>\
             </ResponseMetadata></GetCallerIdentityResponse>"
        );
    }

    #[test]
    fn errors_carry_the_codes_of_the_query_protocol() {
        let xml = error(Service::Sts, ErrorCode::INVALID_SIGNATURE, "a < b & \"c\"\u{1}\r\n", "id");
        assert_eq!(
            xml,
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>SignatureDoesNotMatch</Code><Message>a &lt; b &amp; &quot;c&quot;\u{fffd}&#xD;\n</Message></Error>\
             <RequestId>id</RequestId></ErrorResponse>"
        );
        assert!(error(Service::Sts, ErrorCode::SERVER, "", "id").contains("<Type>Receiver</Type>"));
    }

    #[test]
    fn lists_hold_members() {
        let mut xml = String::new();
        write_value(&mut xml, &serde_json::json!({"Tags": [{"Key": "a", "Gone": null}], "N": 1, "B": true}));
        assert_eq!(xml, "<B>true</B><N>1</N><Tags><member><Key>a</Key></member></Tags>");
    }
}
