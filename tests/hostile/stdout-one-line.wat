;; Prints 80 MB without ending the line. What is over the limit must be dropped, and the run go well.
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))

(run (local $n i32) (local $out i32)
    (local.set $out (call $stdout))
    (memory.fill (i32.const 4096) (i32.const 97) (i32.const 4096))
    (loop $on
        (call $write (local.get $out) (i32.const 4096) (i32.const 4096) (i32.const 1536))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 20000))))
    (call $fine))
