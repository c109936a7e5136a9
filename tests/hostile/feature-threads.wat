;; Uses a memory that threads share, and atomic instructions. Must be refused when it is installed.
(component (core module (memory 1 1 shared) (func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))))
