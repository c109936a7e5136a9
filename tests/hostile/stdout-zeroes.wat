;; Asks the host to write sixteen exabytes of zeroes for it. Must trap, with nothing allocated.
(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))
(import "wasi:io/streams@0.2.6" "[method]output-stream.write-zeroes" (func $zeroes (param i32 i64 i32)))
(run (call $zeroes (call $stdout) (i64.const -1) (i32.const 1536)) (call $fine))
