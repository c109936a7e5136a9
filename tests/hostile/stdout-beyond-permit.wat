;; Writes a megabyte at once, more than it was permitted. Must trap.
(memory (export "memory") 32)
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.6" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
(run (call $write (call $stdout) (i32.const 65536) (i32.const 1000000) (i32.const 1536)) (call $fine))
