"""The LightField descriptor of meshes: cameras, silhouettes, their numbers, and the readers of polygons."""
