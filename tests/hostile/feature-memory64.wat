;; Uses a memory with 64-bit addresses. Must be refused when it is installed.
(component (core module (memory i64 1) (func (drop (i32.load (i64.const -1))))))
