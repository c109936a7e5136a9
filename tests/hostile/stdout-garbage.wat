;; Prints and logs escape sequences that would rewrite an operator's terminal, and prints bytes that are no
;; UTF-8. They must be made harmless, and the run go well.
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
(import "chimera:skill/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
(data (i32.const 2048) "\1b]0;owned\07\1b[2J\1b[8mroot\1b]52;c;cm0=\07\1b[?1049h\ff\fe\c0\80\ed\a0\80\0a")
(run (local $n i32) (local $out i32)
    (local.set $out (call $stdout))
    (loop $on
        (call $write (local.get $out) (i32.const 2048) (i32.const 46) (i32.const 1536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 100))))
    (call $log (i32.const 1) (i32.const 2048) (i32.const 38))
    (call $fine))
