"A file becomes windows of numbers."
