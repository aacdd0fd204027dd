"""From a config to a detector: any net as backbone, pyramid and region heads in Detectron2."""
