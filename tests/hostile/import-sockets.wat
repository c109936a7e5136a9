;; Imports sockets. Must be refused when it is installed.
(import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket" (func $socket (param i32) (result i32)))
(run (drop (call $socket (i32.const 0))) (call $fine))
