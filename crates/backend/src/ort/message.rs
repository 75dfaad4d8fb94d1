//! Makes ONNX Runtime's error messages readable without changing what they say.
//!
//! They carry the source location and the C++ signature of whoever raised them, an error code in
//! brackets, and sometimes the path of the model, which our own errors name already.

/// The engine's message without its noise, on one line.
pub(super) fn clean(message: &str) -> String {
    let mut rest = message;
    let mut cleaned = String::with_capacity(message.len());
    while let Some(start) = rest.find(SOURCE_ROOT) {
        let Some(end) = end_of_location(&rest[start..]) else { break };
        cleaned.push_str(&rest[..start]);
        rest = rest[start + end..].trim_start();
    }
    cleaned.push_str(rest);
    let mut cleaned = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some(range) = error_code(&cleaned) {
        cleaned.replace_range(range, "");
    }
    let cleaned = cleaned.trim();
    let reason = cleaned.strip_prefix("Load model from ").and_then(|text| {
        let (_path, reason) = text.split_once(" failed:")?;
        Some(reason.trim())
    });
    match reason.unwrap_or(cleaned) {
        "" => "no reason given".to_owned(),
        reason => reason.to_owned(),
    }
}

/// Where the official builds were compiled.
const SOURCE_ROOT: &str = "/onnxruntime_src/";

/// Where `/onnxruntime_src/.../file.cc:12 void f(const T&) const ` ends, in bytes.
fn end_of_location(text: &str) -> Option<usize> {
    let line = text.find(':')? + 1;
    let digits = text[line..].find(|c: char| !c.is_ascii_digit())?;
    let signature = line + digits;
    let is_location = digits > 0 && !text[..line].contains(char::is_whitespace);
    is_location.then(|| signature + end_of_signature(&text[signature..]))
}

/// Where a C++ signature at the start of `text` ends: behind the bracket that closes its
/// parameters, and whatever qualifies them. Zero where there is none on the line.
fn end_of_signature(text: &str) -> usize {
    let line = text.split('\n').next().unwrap_or_default();
    let mut depth = 0_usize;
    for (index, character) in line.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 1 => {
                let mut end = index + 1;
                // `operator()(...)` and `f(int (*)(int))` go on behind their first bracket.
                if line[end..].starts_with('(') {
                    depth = 0;
                    continue;
                }
                end += qualifiers(&line[end..]);
                return end;
            }
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    0
}

/// The length of ` const`, ` noexcept` and a template's ` [with T = int]` at the start.
fn qualifiers(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let next = [" const", " noexcept"].iter().find(|word| rest.starts_with(**word));
        length += match next {
            Some(word) => word.len(),
            None if rest.starts_with(" [with ") => match rest.find(']') {
                Some(end) => end + 1,
                None => return length,
            },
            None => return length,
        };
    }
}

/// Where `[ONNXRuntimeError] : 1 : FAIL : ` stands.
fn error_code(text: &str) -> Option<std::ops::Range<usize>> {
    const MARK: &str = "[ONNXRuntimeError] : ";
    let start = text.find(MARK)?;
    let mut parts = text[start + MARK.len()..].splitn(3, " : ");
    let (number, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let is_code = number.bytes().all(|b| b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    is_code.then(|| start..text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_goes_and_the_message_stays() {
        for (message, expected) in [
            (
                "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2217 \
                 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() \
                 [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
                 libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open \
                 shared object file: No such file or directory",
                "Failed to load library libonnxruntime_providers_cuda.so with error: \
                 libcublasLt.so.13: cannot open shared object file: No such file or directory",
            ),
            (
                "Load model from /models/a b.onnx failed:Protobuf parsing failed.",
                "Protobuf parsing failed.",
            ),
            (
                "Non-zero status code returned while running Reshape node. Name:'r' Status \
                 Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/\
                 reshape_helper.h:47 onnxruntime::ReshapeHelper::ReshapeHelper(const \
                 onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) \
                 input_shape_size == size was false. The input tensor cannot be reshaped.\n",
                "Non-zero status code returned while running Reshape node. Name:'r' Status \
                 Message: input_shape_size == size was false. The input tensor cannot be \
                 reshaped.",
            ),
            (
                "/onnxruntime_src/a/b.cc:9 std::enable_if_t<B> f(T, size_t) const [with T = int] \
                 CUDA failure 100: no CUDA-capable device is detected ; GPU=-1",
                "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1",
            ),
            ("/onnxruntime_src/a.cc:9 f(int (*)(int), int) broken", "broken"),
            ("plain\n  words", "plain words"),
            ("", "no reason given"),
        ] {
            assert_eq!(clean(message), expected);
        }
    }

    #[test]
    fn what_only_looks_like_noise_stays() {
        for message in [
            "cannot open /onnxruntime_src/file",
            "see /onnxruntime_src/a.cc: nothing",
            "[ONNXRuntimeError] : FAIL",
            "Load model from memory",
            "an open ( bracket at /onnxruntime_src/a.cc",
        ] {
            assert_eq!(clean(message), message);
        }
    }
}
